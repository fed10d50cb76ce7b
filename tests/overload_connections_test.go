package tests

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestConnectionsAboveTheBoundAreTold(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--max-connections", "2") // of gRPC, the harness has one
	first, firstBus := s.dial(t)
	inside := subscribed(t, firstBus, "inside")
	_, above := s.dial(t)
	request := sendRequest(message("a", "1"))
	_, err := above.Send(short(t), request)
	exhausted(t, err, "TOO_MANY_CONNECTIONS")
	refused, err := above.Subscribe(short(t), &postbusv1.SubscribeRequest{Channels: []string{"a"}})
	must(t, err)
	_, err = refused.Recv()
	exhausted(t, err, "TOO_MANY_CONNECTIONS")
	if got := s.faults(t, "TOO_MANY_CONNECTIONS"); got != 2 {
		t.Errorf("%d refusals are counted, want 2", got)
	}
	if got := s.metric(t, "postbus_grpc_connections"); got != 2 {
		t.Errorf("%d connections are counted, want 2", got)
	}
	undisturbed(t, url, "inside", inside)
	send(t, s.bus, message("a", "2"))

	// Those beyond the porch are closed.
	var visitors []interface{ Close() error }
	closed := false
	for range 200 {
		conn := raw(t, s.grpcAddr, "")
		visitors = append(visitors, conn)
		if len(visitors) > 100 {
			ended(t, "a connection beyond the porch", conn)
			closed = true
			break
		}
	}
	for _, v := range visitors {
		v.Close()
	}
	if !closed {
		t.Error("none was closed")
	}
	undisturbed(t, url, "inside", inside)

	must(t, first.Close())
	until(t, "there is room again", func() bool {
		_, err := above.Send(short(t), request)
		if code := status.Code(err); err != nil && code != codes.ResourceExhausted && code != codes.Unavailable {
			t.Fatal(err)
		}
		return err == nil
	})
	s.quiet(t)
}

func TestConnectionsOfHTTPAboveTheBoundAreTold(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--max-connections", "2")
	const subscribe = "GET /v1/subscribe?channels=inside HTTP/1.1\r\nHost: localhost\r\n\r\n"
	var lines []*bufio.Reader
	var leave func() error
	for range 2 {
		conn := raw(t, s.httpURL, subscribe)
		leave = conn.Close
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		body := bufio.NewReader(resp.Body)
		_, err = body.ReadString('\n')
		must(t, err)
		lines = append(lines, body)
	}
	for _, path := range []string{"/v1/poll?channels=a", "/v1/subscribe?channels=a", "/none"} {
		resp, answer := s.asked(t, "GET", path, "")
		told429(t, resp, answer, "TOO_MANY_CONNECTIONS")
		if !resp.Close {
			t.Errorf("%s: the connection stays open", path)
		}
	}
	conn := raw(t, s.httpURL, "POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
	if said := ended(t, "a refused body", conn); !strings.HasPrefix(said, "HTTP/1.1 429 ") {
		t.Errorf("a refused body: %.200s", said)
	}
	if got := s.faults(t, "TOO_MANY_CONNECTIONS"); got != 4 {
		t.Errorf("%d refusals are counted, want 4", got)
	}
	send(t, s.bus, message("inside", "1"))
	for _, body := range lines {
		line, err := body.ReadString('\n')
		must(t, err)
		if !strings.Contains(line, `"channel":"inside"`) {
			t.Errorf("a line inside: %s", line)
		}
	}
	must(t, leave())
	until(t, "there is room again", func() bool {
		resp, _ := s.asked(t, "GET", "/v1/poll?channels=a&timeout=0s", "")
		return resp.StatusCode == 200
	})
	s.quiet(t)
}
