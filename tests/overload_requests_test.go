package tests

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// unsent opens a call whose message does not come.
func unsent(t *testing.T, conn *grpc.ClientConn, method string) (grpc.ClientStream, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/postbus.v1.BusService/"+method)
	must(t, err)
	return stream, cancel
}

func TestRequestsAboveTheBoundAreTold(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--max-requests", "2")
	inside := subscribed(t, s.bus, "inside")
	_, leave := unsent(t, s.conn, "Send")
	unsent(t, s.conn, "Subscribe")
	s.awaitMetric(t, "postbus_requests", 2)
	_, err := s.bus.Send(short(t), sendRequest(message("a", "1")))
	exhausted(t, err, "TOO_MANY_REQUESTS")
	for _, path := range []string{"/v1/send", "/v1/poll", "/v1/subscribe", "/longpolling/poll"} {
		resp, answer := s.asked(t, "POST", path, `{"messages":[{"channel":"a"}]}`)
		told429(t, resp, answer, "TOO_MANY_REQUESTS")
	}
	if got := s.faults(t, "TOO_MANY_REQUESTS"); got != 5 {
		t.Errorf("%d refusals are counted, want 5", got)
	}
	undisturbed(t, url, "inside", inside)
	leave()
	until(t, "there is room again", func() bool {
		_, err := s.bus.Send(short(t), sendRequest(message("a", "2")))
		return err == nil
	})
	s.awaitMetric(t, "postbus_requests", 1)
	if stored := ask[int](t, sql(t, url), "SELECT count(*) FROM postbus.bus WHERE channel = 'a'"); stored != 1 {
		t.Errorf("%d are stored, want 1: what is refused is not", stored)
	}
	s.quiet(t)
}

// A stalling is a client's connection that writes so many bytes and then no more.
type stalling struct {
	net.Conn
	left int
	gone chan struct{}
}

// Write implements net.Conn.
func (s *stalling) Write(p []byte) (int, error) {
	if n := min(s.left, len(p)); n > 0 {
		s.left -= n
		if _, err := s.Conn.Write(p[:n]); err != nil || n == len(p) {
			return n, err
		}
	}
	<-s.gone
	s.Conn.Close() // gRPC waits for its reader to notice
	return 0, net.ErrClosed
}

// stalled begins a Send of 4 MiB that does not come whole.
func stalled(t *testing.T, s *served) (answer <-chan error, leave func()) {
	t.Helper()
	gone := make(chan struct{})
	_, bus := s.dial(t, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return &stalling{conn, 3 << 20, gone}, err
	}))
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	large := strings.Repeat("x", 1<<20-100)
	go func() {
		_, err := bus.Send(ctx, sendRequest(message("large", "1"), message("large", large), message("large", large), message("large", large)))
		answered <- err
	}()
	once := make(chan struct{}, 1)
	leave = func() {
		select {
		case once <- struct{}{}:
			close(gone)
			cancel()
		default:
		}
	}
	t.Cleanup(leave)
	return answered, leave
}

func TestBytesOfRequestsAboveTheBoundAreTold(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--max-request-bytes", fmt.Sprint(16<<20))
	inside := subscribed(t, s.bus, "inside")
	// The bound is spent by bodies of either side that do not come whole.
	var leaves []func()
	for i := range 3 {
		_, leave := stalled(t, s)
		leaves = append(leaves, leave)
		until(t, "its bytes are counted", func() bool { return s.metric(t, "postbus_request_bytes") >= (i+1)*(5<<20)/2 })
	}
	body := "POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8000000\r\n\r\n" + strings.Repeat(" ", 5<<19)
	raw(t, s.httpURL, body)
	until(t, "its bytes are counted", func() bool { return s.metric(t, "postbus_request_bytes") >= 12<<20 })

	answer, _ := stalled(t, s)
	other, _ := stalled(t, s)
	var err error
	select { // who is refused is whoever asks for more
	case err = <-answer:
	case err = <-other:
	}
	exhausted(t, err, "TOO_MANY_REQUESTS")
	resp, told := s.asked(t, "POST", "/v1/send", `{"messages":[{"channel":"a","payload":"`+strings.Repeat("x", 1<<20)+strings.Repeat(" ", 6<<20)+`"}]}`)
	told429(t, resp, told, "TOO_MANY_REQUESTS")
	if got := s.faults(t, "TOO_MANY_REQUESTS"); got < 2 {
		t.Errorf("%d refusals are counted", got)
	}
	if got := s.metric(t, "postbus_request_bytes"); got > 16<<20 {
		t.Errorf("%d bytes are counted", got)
	}
	// What comes at once needs no bytes.
	undisturbed(t, url, "inside", inside)
	send(t, s.bus, message("inside", "1"))

	for _, leave := range leaves {
		leave()
	}
	until(t, "only the body of HTTP is counted", func() bool { return s.metric(t, "postbus_request_bytes") <= 4<<20 })
	until(t, "there is room again", func() bool {
		resp, _ := s.asked(t, "POST", "/v1/send", `{"messages":[{"channel":"a","payload":"`+strings.Repeat("x", 1<<19)+`"}]}`)
		return resp.StatusCode == 200
	})
	s.quiet(t)
}

func TestReadersAboveTheBoundAreTold(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--max-memberships", "1000", "--max-readers", "4") // the harness watches the health
	channels := make([]string, 700)
	for i := range channels {
		channels[i] = fmt.Sprint("c", i)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	inside := subscribed(t, s.bus, "inside")
	polled := make(chan error, 1)
	go func() { _, err := s.bus.Poll(ctx, pollOf(channels...)); polled <- err }()
	s.awaitMetric(t, "postbus_memberships", 701)
	_, err := s.bus.Poll(short(t), pollOf(channels...))
	exhausted(t, err, "TOO_MANY_READERS")
	if !strings.Contains(status.Convert(err).Message(), "701 channels, at most 1000") {
		t.Error(err)
	}
	resp, answer := s.asked(t, "POST", "/v1/subscribe", `{"channels":["`+strings.Join(channels, `","`)+`"]}`)
	told429(t, resp, answer, "TOO_MANY_READERS")
	undisturbed(t, url, "inside", inside)

	// Fill what is left of --max-readers; health watches are readers, too.
	until(t, "the bound of readers is reached", func() bool {
		subscribeCtx, cancel := context.WithCancel(ctx)
		stream, err := s.bus.Subscribe(subscribeCtx, subscribeOf("a"))
		must(t, err)
		if _, err = stream.Recv(); err != nil {
			cancel()
			exhausted(t, err, "TOO_MANY_READERS")
			return true
		}
		t.Cleanup(cancel)
		return false
	})
	undisturbed(t, url, "inside", inside)
	leave()
	if err := <-polled; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	s.awaitMetric(t, "postbus_memberships", 1)
	until(t, "there is room again", func() bool {
		_, err := s.bus.Poll(short(t), pollNow(channels...))
		return err == nil
	})
	s.quiet(t)
}
