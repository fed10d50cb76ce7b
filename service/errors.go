package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/groupcommit"
)

// The closed list of reasons: what ErrorInfo.reason and the JSON form's "reason" can
// say. docs/guarantees.md lists it.
const (
	// ReasonInvalidField: a field's value is refused; the violations say which and why.
	ReasonInvalidField = bus.InvalidField
	// ReasonUnknownField: a field, member or query name that this server does not know.
	ReasonUnknownField = bus.UnknownField
	// ReasonTooLarge: a payload or a request above its limit.
	ReasonTooLarge = bus.TooLarge
	// ReasonMalformedJSON: the body of an HTTP request is not a JSON text.
	ReasonMalformedJSON = bus.MalformedJSON

	// ReasonSendQueueFull: too much waits to be stored. Nothing was stored.
	ReasonSendQueueFull = "SEND_QUEUE_FULL"
	// ReasonTooManyReaders: the bound of open streams and polls is reached.
	ReasonTooManyReaders = "TOO_MANY_READERS"
	// ReasonTooManyReads: too many wait to read the table.
	ReasonTooManyReads = "TOO_MANY_READS"
	// ReasonTooManyConnections: the bound of a listener's connections is reached.
	ReasonTooManyConnections = "TOO_MANY_CONNECTIONS"
	// ReasonTooManyRequests: the bound of requests being received, in number or in
	// bytes, is reached. Nothing was stored.
	ReasonTooManyRequests = "TOO_MANY_REQUESTS"
	// ReasonDatabaseUnavailable: the database is away. Nothing was stored.
	ReasonDatabaseUnavailable = "DATABASE_UNAVAILABLE"
	// ReasonDraining: this node is stopping. Nothing was stored.
	ReasonDraining = "DRAINING"
	// ReasonKeyBusy: an open transaction elsewhere uses the key. Nothing was stored.
	ReasonKeyBusy = "KEY_BUSY"
	// ReasonOutcomeUnknown: it is not known whether the messages were stored. Retry
	// with a key.
	ReasonOutcomeUnknown = "OUTCOME_UNKNOWN"

	// ReasonCanceled: the caller ended the request.
	ReasonCanceled = "CANCELED"
	// ReasonDeadlineExceeded: the caller's deadline passed.
	ReasonDeadlineExceeded = "DEADLINE_EXCEEDED"
	// ReasonInternal: a fault of the server; its log has the whole.
	ReasonInternal = "INTERNAL"

	// The reasons that only HTTP has.

	// ReasonNotFound: no such route.
	ReasonNotFound = "NOT_FOUND"
	// ReasonMethodNotAllowed: the route has no such method; Allow says which it has.
	ReasonMethodNotAllowed = "METHOD_NOT_ALLOWED"
	// ReasonUnsupportedMediaType: a body that is not application/json.
	ReasonUnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE"
	// ReasonNotImplemented: a protocol that this server does not speak.
	ReasonNotImplemented = "NOT_IMPLEMENTED"
	// ReasonForbidden: a Host or an Origin that is not allowed here.
	ReasonForbidden = "FORBIDDEN"
)

// Reasons returns the closed list.
func Reasons() []string {
	return []string{
		ReasonInvalidField, ReasonUnknownField, ReasonTooLarge, ReasonMalformedJSON,
		ReasonSendQueueFull, ReasonTooManyReaders, ReasonTooManyReads, ReasonTooManyConnections, ReasonTooManyRequests,
		ReasonDatabaseUnavailable, ReasonDraining, ReasonKeyBusy,
		ReasonOutcomeUnknown, ReasonCanceled, ReasonDeadlineExceeded, ReasonInternal,
		ReasonNotFound, ReasonMethodNotAllowed, ReasonUnsupportedMediaType,
		ReasonNotImplemented, ReasonForbidden,
	}
}

var (
	// errPanicked: a handler panicked; only its own request ends.
	errPanicked = errors.New("handler panicked")
)

// internalSentence is all that a client learns of a fault of the server.
const internalSentence = "internal error; the server's log has the details"

// A fault is an error as a client sees it, whatever the transport.
type fault struct {
	code       codes.Code
	reason     string
	message    string
	violations []bus.Violation
	retry      time.Duration // 0: no advice
	http       int           // 0: what the gateway makes of code
	allow      string        // of METHOD_NOT_ALLOWED: the Allow header
	counted    bool
}

func (f *fault) Error() string { return f.reason + ": " + f.message }

// faultOf is the one switch from errors to what clients see. What it does not know
// becomes INTERNAL with a fixed sentence.
func faultOf(err error) *fault {
	var (
		known   *fault
		invalid *bus.InvalidError
		refused *groupcommit.DataError
		large   *http.MaxBytesError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &invalid):
		return &fault{code: codes.InvalidArgument, reason: invalid.Reason, message: invalid.Error(), violations: invalid.Violations}
	case errors.As(err, &large):
		return faultOf(bus.Invalid(bus.TooLarge, "body", "more than %d bytes, at most %d", large.Limit, large.Limit))
	case errors.Is(err, bus.ErrSendQueueFull):
		return &fault{code: codes.ResourceExhausted, reason: ReasonSendQueueFull, message: err.Error(), retry: time.Second}
	case errors.Is(err, bus.ErrTooManyReaders):
		return &fault{code: codes.ResourceExhausted, reason: ReasonTooManyReaders, message: err.Error(), retry: 5 * time.Second}
	case errors.Is(err, bus.ErrTooManyReads): // which is an ErrUnavailable, too
		return &fault{code: codes.ResourceExhausted, reason: ReasonTooManyReads, message: "too many wait to read the table", retry: time.Second}
	case errors.Is(err, bus.ErrDraining):
		return &fault{code: codes.Unavailable, reason: ReasonDraining, message: bus.ErrDraining.Error(), retry: time.Second}
	case errors.Is(err, bus.ErrKeyBusy):
		return &fault{code: codes.Unavailable, reason: ReasonKeyBusy, message: bus.ErrKeyBusy.Error(), retry: time.Second}
	case errors.Is(err, bus.ErrUnknownOutcome):
		return &fault{code: codes.Unknown, reason: ReasonOutcomeUnknown, message: bus.ErrUnknownOutcome.Error() + "; retry with a key"}
	case errors.Is(err, bus.ErrUnavailable):
		return &fault{code: codes.Unavailable, reason: ReasonDatabaseUnavailable, message: bus.ErrUnavailable.Error(), retry: time.Second}
	case errors.Is(err, errPanicked):
		return &fault{code: codes.Internal, reason: ReasonInternal, message: internalSentence}
	case errors.Is(err, context.DeadlineExceeded):
		return &fault{code: codes.DeadlineExceeded, reason: ReasonDeadlineExceeded, message: "the deadline passed"}
	case errors.Is(err, context.Canceled):
		return &fault{code: codes.Canceled, reason: ReasonCanceled, message: "the caller ended the request"}
	case errors.As(err, &refused):
		return &fault{code: codes.InvalidArgument, reason: ReasonInvalidField, message: "the database refused the data of this send"}
	}
	switch status.Code(err) {
	case codes.Canceled:
		return faultOf(context.Canceled)
	case codes.DeadlineExceeded:
		return faultOf(context.DeadlineExceeded)
	}
	return &fault{code: codes.Internal, reason: ReasonInternal, message: internalSentence}
}

// The faults of the bounds that are met before a request is read.

// errTooManyConnections names the bound that was spent when a guest asked for room; nil:
// the guest has left.
func (s *Service) errTooManyConnections(spent *budget) error {
	message := fmt.Sprintf("%d connections of this listener are open, the most allowed", s.opts.MaxConnections)
	if spent == &s.guests {
		message = fmt.Sprintf("%d connections of both listeners are open, the most that the node has descriptors for", s.opts.MaxGuests)
	}
	return &fault{code: codes.ResourceExhausted, reason: ReasonTooManyConnections, retry: 5 * time.Second, message: message}
}

func (s *Service) errTooManyRequests() error {
	return &fault{code: codes.ResourceExhausted, reason: ReasonTooManyRequests, retry: time.Second,
		message: fmt.Sprintf("%d requests are under way, the most allowed", s.opts.MaxRequests)}
}

func (s *Service) errTooManyBytes() error {
	return &fault{code: codes.ResourceExhausted, reason: ReasonTooManyRequests, retry: time.Second,
		message: fmt.Sprintf("requests of %d bytes are being received, the most allowed", s.opts.MaxRequestBytes)}
}

// The faults of HTTP alone.

func errNotFound(path string) error {
	return &fault{code: codes.NotFound, reason: ReasonNotFound, message: fmt.Sprintf("no route %.100q", path)}
}

func errMethod(method, allow string) error {
	return &fault{code: codes.Unimplemented, reason: ReasonMethodNotAllowed, http: http.StatusMethodNotAllowed, allow: allow,
		message: fmt.Sprintf("method %.20q, allowed: %s", method, allow)}
}

func errMediaType(got string) error {
	return &fault{code: codes.InvalidArgument, reason: ReasonUnsupportedMediaType, http: http.StatusUnsupportedMediaType,
		message: fmt.Sprintf("Content-Type %.100q, must be application/json", got)}
}

func errNotImplemented(what string) error {
	return &fault{code: codes.Unimplemented, reason: ReasonNotImplemented, message: what + " is not served here"}
}

func errForbidden(header, value, list string) error {
	return &fault{code: codes.PermissionDenied, reason: ReasonForbidden,
		message: fmt.Sprintf("%s %.100q is not among the %s", header, value, list)}
}
