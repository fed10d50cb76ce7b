package client

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is a server that answers as a test says: each call gets the number of
// calls of its kind so far, from 1.
type script struct {
	postbusv1.UnimplementedBusServiceServer
	send      func(ctx context.Context, try int, r *postbusv1.SendRequest) (*postbusv1.SendResponse, error)
	poll      func(ctx context.Context, r *postbusv1.PollRequest) (*postbusv1.PollResponse, error)
	subscribe func(stream subscribeStream, try int, r *postbusv1.SubscribeRequest) error

	mu    sync.Mutex
	calls int
	conns []net.Conn
}

type subscribeStream = grpc.ServerStreamingServer[postbusv1.SubscribeResponse]

func (s *script) called() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return s.calls
}

// seen returns how many calls there were.
func (s *script) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *script) Send(ctx context.Context, r *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
	return s.send(ctx, s.called(), r)
}

func (s *script) Poll(ctx context.Context, r *postbusv1.PollRequest) (*postbusv1.PollResponse, error) {
	return s.poll(ctx, r)
}

func (s *script) Subscribe(r *postbusv1.SubscribeRequest, stream subscribeStream) error {
	return s.subscribe(stream, s.called(), r)
}

// cut breaks every connection, as a crash or a network would.
func (s *script) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

// A cuttable listener remembers its connections for cut.
type cuttable struct {
	net.Listener
	script *script
}

func (l cuttable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.script.mu.Lock()
		l.script.conns = append(l.script.conns, conn)
		l.script.mu.Unlock()
	}
	return conn, err
}

// play runs s and returns a client of it; both end with the test.
func play(t *testing.T, s *script, o Options) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	postbusv1.RegisterBusServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(cuttable{listener, s}) }()
	o.Target = listener.Addr().String()
	c, err := Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// within returns a context that fails the test's calls rather than hang them.
func within(t *testing.T, most time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	t.Cleanup(cancel)
	return ctx
}

// told returns an error of the server's own, with RetryInfo unless retry is 0.
func told(t *testing.T, code codes.Code, retry time.Duration) error {
	t.Helper()
	s, err := status.New(code, "as the test says").WithDetails(&errdetails.ErrorInfo{Domain: "postbus", Reason: "TEST"})
	if err == nil && retry != 0 {
		s, err = s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	if err != nil {
		t.Error(err)
	}
	return s.Err()
}
