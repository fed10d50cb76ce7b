package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/service/odoo"
)

// HTTPHandler returns the handler of everything that is reached by HTTP. HTTPServer has
// the timeouts and bounds that it should run under.
func (s *Service) HTTPHandler() http.Handler { return s.handler }

// HTTPServer returns the server of HTTPHandler: HTTP/1.1, and HTTP/2 for clients that begin
// with it. It has no write timeout, since streams stay; what it has to say, to nobody in
// particular, goes to the log as debug.
//
// A peer of HTTP/2 that does not answer a ping within 30 s, sent after 30 s of silence,
// is ended, as gRPC's is; one of HTTP/1.1 by TCP, whose keepalive Go's listener turns on.
func (s *Service) HTTPServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			// A client waits in silence above it, and goes by MaxReaders and
			// MaxRequests below it.
			MaxConcurrentStreams:          1_000,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
			SendPingTimeout:               30 * time.Second,
			PingTimeout:                   30 * time.Second,
		},
		Handler:           s.handler,
		ReadHeaderTimeout: s.headerTimeout(),
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    s.opts.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, guestKey{}, guestOf(conn.RemoteAddr()))
		},
	}
}

type guestKey struct{}

// headerTimeout is how long a connection may take to say what it wants.
func (s *Service) headerTimeout() time.Duration { return min(10*time.Second, s.opts.ReceiveTimeout) }

// A route is one path of the JSON side.
type route struct {
	methods string                                                                     // the Allow header
	names   []string                                                                   // of the query of a GET
	serve   func(w http.ResponseWriter, r *http.Request, in *incoming) (*pause, error) // of JSON
}

// What every answer, or nearly every one, says in its headers. They share the values.
var (
	jsonTypes  = []string{jsonType}
	noSniff    = []string{"nosniff"}
	noStore    = []string{"no-store"}
	varyOrigin = []string{"Origin"}
)

// A pause is a request that has been read, and may wait for long before it is answered. Its
// goroutine waits for as long, and keeps its stack: so what goes deep, reading and
// answering, is done aside, and an idle reader keeps 4 KB of stack instead of 16.
type pause struct {
	wait   func() error      // on the request's own goroutine; nothing is said in it but by a courier or a stream
	end    func(error) error // with what wait returned, unless that is errAnswered; the error is one to refuse with
	cancel func()            // the last of all, or nil
}

func (s *Service) newHandler() (http.Handler, error) {
	gateway, err := s.newGateway()
	if err != nil {
		return nil, err
	}
	unary := func(w http.ResponseWriter, r *http.Request, in *incoming) (*pause, error) {
		return s.serveUnary(gateway, w, r, in)
	}
	routes := map[string]route{
		"/v1/send":      {methods: "POST", serve: unary},
		"/v1/poll":      {methods: "GET, POST", names: []string{"channels", "after", "timeout", "max"}, serve: unary},
		subscribePath:   {methods: "GET, POST", names: []string{"channels", "after", "heartbeat"}, serve: s.serveSubscribe},
		"/openapi.json": {methods: "GET", names: []string{}, serve: serveOpenAPI},
	}
	beside, err := s.newOdoo()
	if err != nil {
		return nil, err
	}
	s.odoo = beside
	gate := newGate(s.opts.AllowedHosts, s.opts.CORSOrigins)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recoverHTTP(w, r)
		var waiting *pause
		s.orRefuse(w, r, func() (err error) { waiting, err = s.beginHTTP(gate, routes, beside, w, r); return err })
		if waiting == nil {
			return
		}
		if waiting.cancel != nil {
			defer waiting.cancel()
		}
		if err := waiting.wait(); !errors.Is(err, errAnswered) {
			s.orRefuse(w, r, func() error { return waiting.end(err) })
		}
	}), nil
}

// orRefuse does something for a request, aside, and refuses with its error.
func (s *Service) orRefuse(w http.ResponseWriter, r *http.Request, do func() error) {
	_ = s.hands.aside(func() error {
		if err := do(); err != nil {
			s.refuseHTTP(w, r, err)
		}
		return nil
	})
}

// beginHTTP admits and reads a request, and answers it unless that may take long. What the gate
// sets comes before everything that a page should be able to read.
func (s *Service) beginHTTP(gate *gate, routes map[string]route, beside *odoo.Handler, w http.ResponseWriter, r *http.Request) (*pause, error) {
	w.Header()["X-Content-Type-Options"] = noSniff
	if r.ContentLength != 0 {
		// Of a request that is refused the server still reads the body, to find the
		// next one. Not every ResponseWriter has deadlines; then the transport has
		// its own.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.opts.ReceiveTimeout))
	}
	if err := gate.checkHost(r); err != nil {
		return nil, err
	}
	isOdoo, anyOrigin := beside.Serves(r.URL.Path)
	if !anyOrigin {
		if done, err := gate.checkOrigin(w, r); done || err != nil {
			return nil, err
		}
	}
	if guest, _ := r.Context().Value(guestKey{}).(*guest); guest != nil && !guest.admitted() {
		w.Header().Set("Connection", "close")
		linger(w, r)
		return nil, guest.noRoom()
	}
	if isOdoo {
		p := beside.Begin(w, r)
		if p == nil {
			return nil, nil
		}
		return &pause{
			wait: func() error { p.Wait(); return nil },
			end:  func(error) error { p.End(); return nil },
		}, nil
	}
	return s.route(routes, w, r)
}

// route finds r's route, reads its request, and serves it under the deadline that
// Grpc-Timeout names.
func (s *Service) route(routes map[string]route, w http.ResponseWriter, r *http.Request) (waiting *pause, err error) {
	to, ok := routes[r.URL.Path]
	if !ok {
		return nil, errNotFound(r.URL.Path)
	}
	if !allowed(to.methods, r.Method) {
		return nil, errMethod(r.Method, to.methods)
	}
	in, err := s.receive(w, r)
	if err != nil {
		return nil, err
	}
	defer in.release()
	if in.data, err = s.requestBody(to, w, r, in); err != nil {
		return nil, err
	}
	timeout, err := grpcTimeout(r.Header)
	if err != nil {
		return nil, err
	}
	in.keep = r.URL.Path == "/v1/send"
	if timeout == 0 {
		return to.serve(w, r, in)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer func() {
		if waiting == nil {
			cancel()
			return
		}
		waiting.cancel = cancel
	}()
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	r.Header.Del("Grpc-Timeout") // the gateway would count it again
	return to.serve(w, r, in)
}

func allowed(methods, method string) bool {
	for m := range strings.SplitSeq(methods, ", ") {
		if m == method {
			return true
		}
	}
	return false
}

// requestBody returns the JSON of a request: the body of a POST, the query of a GET.
func (s *Service) requestBody(to route, w http.ResponseWriter, r *http.Request, in *incoming) ([]byte, error) {
	if r.Method == http.MethodGet {
		return queryJSON(r.URL.RawQuery, to.names)
	}
	if _, err := queryJSON(r.URL.RawQuery, nil); err != nil {
		return nil, err
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != jsonType {
		return nil, errMediaType(r.Header.Get("Content-Type"))
	}
	return in.body(w, r)
}

// grpcTimeout returns the deadline that a caller sets by Grpc-Timeout: up to eight
// digits and one of H, M, S, m, u, n. It is clamped to an hour; 0 is none.
func grpcTimeout(h http.Header) (time.Duration, error) {
	const most = time.Hour
	text := h.Get("Grpc-Timeout")
	if text == "" {
		return 0, nil
	}
	unit, ok := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 64)
	if !ok || err != nil || len(text) > 9 {
		return 0, bus.Invalid(bus.InvalidField, "Grpc-Timeout", "%q, must be up to 8 digits and one of H, M, S, m, u, n", clip(text))
	}
	if n > uint64(most/unit) {
		return most, nil
	}
	return max(time.Duration(n)*unit, time.Nanosecond), nil
}

// refuseHTTP answers with the fault that a client sees of err, in the form that it reads.
func (s *Service) refuseHTTP(w http.ResponseWriter, r *http.Request, err error) {
	f := inJSONNames(s.refuse(r.Context(), r.URL.Path, err))
	switch form := streamForm(r); {
	case form == formWebSocket && s.refuseSocket(w, r, f):
	case form == formSSE && f.passing():
		f.writeEvent(w)
	default:
		f.write(w)
	}
}

// inJSONNames returns f with the names that the JSON form has: the JSON body of a
// message is its payload there.
func inJSONNames(f *fault) *fault {
	if f.reason == ReasonUnknownField {
		return f // there the name is the client's own
	}
	renamed := *f
	renamed.violations = make([]bus.Violation, len(f.violations))
	changed := false
	for i, v := range f.violations {
		if message, ok := strings.CutSuffix(v.Field, ".json"); ok {
			v.Field = message + ".payload"
			changed = true
		}
		renamed.violations[i] = v
	}
	if changed {
		renamed.message = (&bus.InvalidError{Violations: renamed.violations}).Error()
	}
	return &renamed
}

// recoverHTTP ends the request of a handler that panicked, and no other.
func (s *Service) recoverHTTP(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.refuseHTTP(w, r, fmt.Errorf("%w: %v\n%s", errPanicked, p, debug.Stack()))
}
