package bus

import (
	"errors"
	"fmt"
	"strings"
)

// What may go wrong for a client, whatever the transport. Wrap them with %w; test
// with errors.Is. The service's one switch turns them into statuses.
var (
	// ErrUnavailable: the database is away or a read of it failed. Of a send: it is
	// certain that nothing was stored.
	ErrUnavailable = errors.New("the database is not available")
	// ErrDraining: this node is stopping. Nothing was stored.
	ErrDraining = errors.New("the server is stopping")
	// ErrUnknownOutcome: the connection broke while a send was being committed.
	ErrUnknownOutcome = errors.New("it is not known whether the messages were stored")
	// ErrSendQueueFull: too much waits to be committed. Nothing was stored.
	ErrSendQueueFull = errors.New("too many messages wait to be stored")
	// ErrKeyBusy: an open transaction elsewhere uses the key. Nothing was stored.
	ErrKeyBusy = errors.New("another open transaction uses the key")
	// ErrTooManyReads: too many wait to read the table. It is an ErrUnavailable too: a
	// stream that is open sits both out.
	ErrTooManyReads = fmt.Errorf("too many reads of the table wait: %w", ErrUnavailable)
	// ErrTooManyReaders: the bound of open streams and polls is reached.
	ErrTooManyReaders = errors.New("too many readers")
)

// A Violation is one fault of a request: the field as the client wrote it, and the
// value's fault with the limit ("300 bytes, at most 255").
type Violation struct {
	Field string
	Fault string
}

// Fault kinds of an InvalidError, the reasons a client sees.
const (
	InvalidField  = "INVALID_FIELD"
	UnknownField  = "UNKNOWN_FIELD"
	TooLarge      = "TOO_LARGE"
	MalformedJSON = "MALFORMED_JSON"
)

// An InvalidError is a request that retrying cannot cure.
type InvalidError struct {
	Reason     string // one of the fault kinds
	Violations []Violation
}

// Error joins the violations as "field: fault; field: fault".
func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		parts[i] = v.Fault
		if v.Field != "" {
			parts[i] = v.Field + ": " + v.Fault
		}
	}
	return strings.Join(parts, "; ")
}

// Invalid returns the InvalidError of one fault of one field.
func Invalid(reason, field, format string, args ...any) *InvalidError {
	return &InvalidError{reason, []Violation{{field, fmt.Sprintf(format, args...)}}}
}
