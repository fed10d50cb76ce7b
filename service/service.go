// Package service is the way in and out: it turns the wire (gRPC, JSON, line streams,
// Odoo's long-poll) into the words of the domain and back. Every transport is a thin
// adapter of the same three steps, send, poll and walk, so that checks, bounds, errors
// and counts are the same whichever way a request comes.
package service

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/health"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/groupcommit"
	"github.com/postbus/postbus/service/odoo"
)

// Options configure a Service. Dispatcher and Writer are required; the zero value of
// everything else is the documented default.
type Options struct {
	Dispatcher *dispatch.Dispatcher
	Writer     *groupcommit.Writer

	// Recent finds where Odoo's "the last 50 seconds" begin. Default: who asks for them
	// is refused.
	Recent Recent

	Limits      bus.Limits    // default: bus.DefaultLimits
	PollTimeout time.Duration // of a poll that names none, at most 50 s; default 25 s
	MaxReaders  int           // streams and polls open at once; default 50,000

	MaxConnections  int           // of each listener; default 50,000
	MaxGuests       int           // connections of both listeners, for want of descriptors; default 100,000
	MaxRequests     int           // being received, and sends being answered; default 20,000
	MaxRequestBytes int           // of requests being received; default 256 MiB
	MaxHeaderBytes  int           // of one request's headers; default 64 KiB
	ReceiveTimeout  time.Duration // of one request; default 30 s

	Logger *slog.Logger // default: slog.Default

	// CORSOrigins are the web origins ("https://app.example.com") whose pages may
	// use the JSON side; "*" allows every one. Default: none but its own.
	CORSOrigins []string

	// AllowedHosts are the names under which the JSON side may be asked (the Host
	// header, with or without a port), beside localhost, 127.0.0.1 and [::1]; "*"
	// allows every one. A page of a foreign name that resolves to this machine is
	// kept out by it.
	AllowedHosts []string

	// Odoo is how Odoo's protocol is spoken. Its Core and Logger are set here.
	Odoo odoo.Options
}

// Recent finds a cursor by age.
type Recent interface {
	// IDBefore returns the highest settled id that is older than age, 0 if there is
	// none. Error: bus.ErrUnavailable.
	IDBefore(ctx context.Context, age time.Duration) (bus.ID, error)
}

// A Service answers requests. It starts nothing; its methods may be called from any
// goroutine.
type Service struct {
	postbusv1.UnimplementedBusServiceServer

	opts    Options
	limits  bus.Limits
	log     *slog.Logger
	health  *health.Server
	handler http.Handler
	odoo    *odoo.Handler
	counts  counts
	hands   hands
	sockets *sockets
	peers   maphash.Seed // makes one number of each peer's address

	requests, requestBytes budget
	grpcGuests, httpGuests budget
	guests                 budget // both

	draining context.Context // ended by Drain; a signal, nobody's request
	drain    context.CancelFunc
}

// New returns the Service of a dispatcher and a writer. Until SetHealthy it reports
// itself as not serving.
func New(o Options) (*Service, error) {
	if o.Dispatcher == nil || o.Writer == nil {
		return nil, fmt.Errorf("service: Dispatcher and Writer are required")
	}
	if o.Limits == (bus.Limits{}) {
		o.Limits = bus.DefaultLimits()
	}
	if o.PollTimeout <= 0 {
		o.PollTimeout = defaultPollTimeout
	}
	if o.PollTimeout > maxWait {
		return nil, fmt.Errorf("service: poll timeout %v, at most %v", o.PollTimeout, maxWait)
	}
	for _, bound := range []struct {
		value    *int
		standard int
	}{
		{&o.MaxReaders, 50_000}, {&o.MaxConnections, 50_000}, {&o.MaxGuests, 100_000}, {&o.MaxRequests, 20_000},
		{&o.MaxRequestBytes, 256 << 20}, {&o.MaxHeaderBytes, 64 << 10},
	} {
		if *bound.value <= 0 {
			*bound.value = bound.standard
		}
	}
	if o.ReceiveTimeout <= 0 {
		o.ReceiveTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Service{opts: o, limits: o.Limits, log: o.Logger, health: health.NewServer(), counts: newCounts(),
		sockets: newSockets(), peers: maphash.MakeSeed()}
	s.requests.most, s.requestBytes.most = int64(o.MaxRequests), int64(o.MaxRequestBytes)
	s.grpcGuests.most, s.httpGuests.most = int64(o.MaxConnections), int64(o.MaxConnections)
	s.guests.most = int64(o.MaxGuests)
	s.draining, s.drain = context.WithCancel(context.Background())
	s.SetHealthy(false)
	handler, err := s.newHandler()
	if err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	s.handler = handler
	return s, nil
}

// enter admits one more stream or poll, counted in open; leave ends it.
func (s *Service) enter(open *gauge) error {
	if s.counts.readers.Add(1) > int64(s.opts.MaxReaders) {
		s.counts.readers.Add(-1)
		return fmt.Errorf("%w: %d are open, the most allowed", bus.ErrTooManyReaders, s.opts.MaxReaders)
	}
	open.Add(1)
	return nil
}

func (s *Service) leave(open *gauge) {
	open.Add(-1)
	s.counts.readers.Add(-1)
}

// finish ends every way into the service: deferred, it turns a panic into an error of
// this request alone, any error into the fault a client sees, and counts it.
func (s *Service) finish(ctx context.Context, method string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v\n%s", errPanicked, p, debug.Stack())
	}
	if *err != nil {
		*err = s.refuse(ctx, method, *err)
	}
}

// refuse returns the fault that a client sees of err, counted, and logs what only the
// operator may see.
func (s *Service) refuse(ctx context.Context, method string, err error) *fault {
	f := faultOf(err)
	if f.counted {
		return f
	}
	f.counted = true
	s.counts.faults[f.reason].Add(1)
	if f.reason == ReasonInternal {
		s.log.LogAttrs(ctx, slog.LevelError, "request failed",
			slog.String("method", method), slog.Any("error", err))
	}
	return f
}
