package tests

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// dribble writes a byte now and then, until the server has closed the connection.
func dribble(conn net.Conn) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if _, err := io.WriteString(conn, "1"); err != nil {
			return
		}
	}
}

func TestClientsThatNeverFinishAreEnded(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--receive-timeout", "1s")
	inside := subscribed(t, s.bus, "inside")
	t.Run("each", func(t *testing.T) { endings(t, s) })
	undisturbed(t, url, "inside", inside)
	s.awaitMetric(t, "postbus_requests", 0)
	s.awaitMetric(t, "postbus_request_bytes", 0)
	s.awaitMetric(t, "postbus_http_connections", 0)
	s.awaitMetric(t, "postbus_grpc_connections", 1)
	s.quiet(t)
}

// endings runs the clients that never finish, all at once.
func endings(t *testing.T, s *served) {
	const head = "POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	const tls = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	for what, c := range map[string]struct{ addr, text, says string }{
		"HTTP: nothing":               {s.httpURL, "", ""},
		"HTTP: a header":              {s.httpURL, "GET /v1/poll HTTP/1.1\r\nHost: localhost\r\nX-A: ", ""},
		"HTTP: a body":                {s.httpURL, head + "Content-Length: 1000000\r\n\r\n", "HTTP/1.1 400 "},
		"HTTP: a chunk":               {s.httpURL, head + "Transfer-Encoding: chunked\r\n\r\nffff\r\n", "HTTP/1.1 400 "},
		"HTTP: a body of nowhere":     {s.httpURL, "POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "HTTP/1.1 404 "},
		"HTTP: a body nobody wants":   {s.httpURL, "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "HTTP/1.1 200 "},
		"HTTP: TLS":                   {s.httpURL, tls, ""},
		"HTTP: the preface of HTTP/2": {s.httpURL, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00"},
		"gRPC: nothing":               {s.grpcAddr, "", ""},
		"gRPC: TLS":                   {s.grpcAddr, tls, ""},
		"gRPC: a preface":             {s.grpcAddr, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		"gRPC: HTTP/1.1":              {s.grpcAddr, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			conn := raw(t, c.addr, c.text)
			go dribble(conn)
			if said := ended(t, what, conn); !strings.HasPrefix(said, c.says) {
				t.Errorf("it was told %.200q", said)
			}
		})
	}
	t.Run("gRPC: no message", func(t *testing.T) {
		t.Parallel()
		for _, method := range []string{"Send", "Poll", "Subscribe"} {
			stream, _ := unsent(t, s.conn, method)
			err := stream.RecvMsg(new(postbusv1.SendResponse))
			if status.Code(err) != codes.DeadlineExceeded || reason(err) != "DEADLINE_EXCEEDED" {
				t.Errorf("%s: %v", method, err)
			}
		}
	})
}

func TestOddRequestsAreAnsweredClearly(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url)
	const host = "Host: localhost\r\n"
	const poll = "GET /v1/poll?channels=a&timeout=0s HTTP/1.1\r\n" + host
	const body = `{"messages":[{"channel":"a"}]}`
	chunks := "5\r\n" + body[:5] + "\r\n19\r\n" + body[5:] + "\r\n0\r\n\r\n"
	for what, c := range map[string]struct {
		text  string
		codes []int
	}{
		"pipelined":             {poll + "\r\n" + poll + "\r\n" + poll + "\r\n", []int{200, 200, 200}},
		"chunked":               {"POST /v1/send HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, []int{200}},
		"a length and chunks":   {"POST /v1/send HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, []int{415}},
		"two lengths":           {"POST /v1/send HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", []int{400}},
		"1 MiB of a header":     {poll + "X-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", []int{431}},
		"10,000 headers":        {poll + strings.Repeat("X-A: aaaaaa\r\n", 10_000) + "\r\n", []int{431}},
		"1 MiB of a path":       {"GET /v1/poll?channels=" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n" + host + "\r\n", []int{431}},
		"no host":               {"GET /v1/poll?channels=a HTTP/1.1\r\n\r\n", []int{400}},
		"a NUL in a header":     {poll + "X-A: \x00\r\n\r\n", []int{400}},
		"HTTP/0.9":              {"GET /v1/poll\r\n\r\n", []int{400}},
		"HTTP/3.0":              {"GET /v1/poll HTTP/3.0\r\n" + host + "\r\n", []int{505}},
		"an unknown encoding":   {"POST /v1/send HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", []int{501}},
		"a chunk that is none":  {"POST /v1/send HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", []int{400}},
		"an expectation":        {"POST /v1/send HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nExpect: magic\r\nContent-Length: 0\r\n\r\n", []int{417}},
		"bytes that are no UTF": {"GET /v1/poll?channels=%ff HTTP/1.1\r\n" + host + "\r\n", []int{400}},
	} {
		conn := raw(t, s.httpURL, "")
		go func() { _, _ = io.WriteString(conn, c.text) }() // the answer may come before the end of it
		r := bufio.NewReader(conn)
		for _, code := range c.codes {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				break
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != code {
				t.Errorf("%s: %s, want %d", what, resp.Status, code)
			}
		}
	}
	s.quiet(t)
}

func TestTooManyAndTooLargeIsToldByName(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--max-channels", "100")
	inside := subscribed(t, s.bus, "inside")
	many := make([]string, 100_000)
	for i := range many {
		many[i] = "c"
	}
	invalid := func(what string, err error, wantReason, says string) {
		t.Helper()
		if status.Code(err) != codes.InvalidArgument || reason(err) != wantReason || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %.300v, reason %q; want %s %q", what, err, reason(err), wantReason, says)
		}
	}
	_, err := s.bus.Poll(short(t), pollNow(many...))
	invalid("100,000 channels", err, "INVALID_FIELD", "channels: 100000 channels, at most 100")
	stream, err := s.bus.Subscribe(short(t), subscribeOf(many[:101]...))
	must(t, err)
	_, err = stream.Recv()
	invalid("101 channels", err, "INVALID_FIELD", "channels: 101 channels, at most 100")
	for _, path := range []string{"/v1/poll", "/v1/subscribe"} {
		resp, answer := s.asked(t, "POST", path, `{"channels":["`+strings.Join(many, `","`)+`"]}`)
		refused(t, resp, answer, 400, "INVALID_FIELD")
		resp, answer = s.asked(t, "GET", path+"?channels="+strings.Join(many[:5000], "&channels="), "")
		refused(t, resp, answer, 400, "INVALID_FIELD")
	}
	// Above the limit of a Send, up to four times of it, the refusal is ours.
	large := message("a", strings.Repeat("x", 1<<20-100))
	for _, count := range []int{5, 15} {
		messages := make([]*postbusv1.Message, count)
		for i := range messages {
			messages[i] = large
		}
		_, err = s.bus.Send(short(t), sendRequest(messages...))
		invalid("a large Send", err, "TOO_LARGE", "request: ")
	}
	conn, _ := s.dial(t)
	err = conn.Invoke(short(t), "/postbus.v1.BusService/Send", []byte("\xff\xff"), new(postbusv1.SendResponse), bytesCall)
	invalid("no protobuf", err, "INVALID_FIELD", "request: not a message of protobuf")
	if got := s.faults(t, "TOO_LARGE"); got != 2 {
		t.Errorf("%d refusals are counted, want 2", got)
	}
	undisturbed(t, url, "inside", inside)
	s.quiet(t)
}
