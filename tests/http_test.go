package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// refused checks the form of an error of the HTTP side.
func refused(t *testing.T, resp *http.Response, answer string, code int, reason string) {
	t.Helper()
	var body struct{ Error struct{ Reason string } }
	if err := json.Unmarshal([]byte(answer), &body); err != nil || resp.StatusCode != code || body.Error.Reason != reason ||
		resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s: %s %.300s %v, want %d %s", resp.Request.Method, resp.Request.URL, resp.Status, answer, resp.Header, code, reason)
	}
}

func TestRoutesMethodsAndMediaTypesAreHTTPs(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	const message = `{"messages":[{"channel":"a"}]}`
	for _, c := range []struct {
		asking
		code   int
		reason string
		allow  string
	}{
		{asking{"GET", "/", "", nil}, 404, "NOT_FOUND", ""},
		{asking{"GET", "/v1/", "", nil}, 404, "NOT_FOUND", ""},
		{asking{"POST", "/v1/send/", message, nil}, 404, "NOT_FOUND", ""},
		{asking{"POST", "/V1/send", message, nil}, 404, "NOT_FOUND", ""},
		{asking{"POST", "/postbus.v1.BusService/Send", message, nil}, 404, "NOT_FOUND", ""},
		{asking{"GET", "/v1/send", "", nil}, 405, "METHOD_NOT_ALLOWED", "POST"},
		{asking{"PUT", "/v1/send", message, nil}, 405, "METHOD_NOT_ALLOWED", "POST"},
		{asking{"DELETE", "/v1/poll?channels=a", "", nil}, 405, "METHOD_NOT_ALLOWED", "GET, POST"},
		{asking{"OPTIONS", "/v1/subscribe", "", nil}, 405, "METHOD_NOT_ALLOWED", "GET, POST"},
		{asking{"POST", "/openapi.json", "{}", nil}, 405, "METHOD_NOT_ALLOWED", "GET"},
		{asking{"POST", "/v1/send", message, []string{"Content-Type", "text/plain"}}, 415, "UNSUPPORTED_MEDIA_TYPE", ""},
		{asking{"POST", "/v1/poll", `{}`, []string{"Content-Type", "multipart/form-data; boundary=x"}}, 415, "UNSUPPORTED_MEDIA_TYPE", ""},
		{asking{"POST", "/v1/send", message, []string{"Content-Type", "application/json; charset=utf-8"}}, 200, "", ""},
		{asking{"POST", "/v1/send", message, []string{"Content-Type", "Application/JSON"}}, 200, "", ""},
		{asking{"GET", "/v1/poll?channels=a&timeout=0s", "", []string{"Host", "localhost"}}, 200, "", ""},
		{asking{"GET", "/v1/poll?channels=a&timeout=0s", "", []string{"Host", "[::1]:8072"}}, 200, "", ""},
		{asking{"GET", "/v1/poll?channels=a&timeout=0s", "", []string{"Host", "LOCALHOST:1"}}, 200, "", ""},
		{asking{"GET", "/v1/poll?channels=a&timeout=0s", "", []string{"Host", "localhost.evil.example"}}, 403, "FORBIDDEN", ""},
		{asking{"GET", "/openapi.json", "", []string{"Host", "evil.example"}}, 403, "FORBIDDEN", ""},
		{asking{"POST", "/longpolling/poll", "{}", []string{"Host", "evil.example"}}, 403, "FORBIDDEN", ""},
		{asking{"POST", "/v1/send", message, []string{"Origin", "https://evil.example"}}, 403, "FORBIDDEN", ""},
		{asking{"POST", "/v1/send", message, []string{"Origin", "null"}}, 403, "FORBIDDEN", ""},
		{asking{"OPTIONS", "/v1/send", "", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}}, 403, "FORBIDDEN", ""},
	} {
		resp, answer := n.asks(t, c.asking)
		if c.code == 200 {
			if resp.StatusCode != 200 {
				t.Errorf("%s %s %q: %s %s", c.method, c.path, c.header, resp.Status, answer)
			}
			continue
		}
		refused(t, resp, answer, c.code, c.reason)
		if got := resp.Header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, got, c.allow)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") == "https://evil.example" {
			t.Errorf("%s %s: a foreign page may read the answer", c.method, c.path)
		}
	}
}

func TestListedOriginsPreflightAndReadRefusalsToo(t *testing.T) {
	const page = "https://app.example"
	n := startNode(t, pgtest.Database(t), nodeOptions{CORSOrigins: []string{page}})
	resp, answer := n.asks(t, asking{"OPTIONS", "/v1/send", "", []string{"Origin", page, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"}})
	h := resp.Header
	if resp.StatusCode != 204 || answer != "" || h.Get("Access-Control-Allow-Origin") != page || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), "content-type") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %s %v", resp.Status, h)
	}
	for _, path := range []string{"/v1/poll?channels=a&timeout=0s", "/v1/poll", "/none"} {
		resp, _ := n.asks(t, asking{"GET", path, "", []string{"Origin", page}})
		if resp.Header.Get("Access-Control-Allow-Origin") != page || !strings.Contains(strings.Join(resp.Header.Values("Vary"), ","), "Origin") {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
}

func TestClientThatGoesEndsItsRequestAtOnce(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{PollTimeout: 50 * time.Second})
	for _, path := range []string{"/v1/poll?channels=a", "/v1/subscribe?channels=a&heartbeat=50s"} {
		ctx, cancel := context.WithCancel(short(t))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.base+path, nil)
		must(t, err)
		ended := make(chan error, 1)
		go func() {
			resp, err := n.web.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			ended <- err
		}()
		until(t, path+" is open", func() bool { s := n.service.Stats(); return s.OpenPolls+s.OpenStreams == 1 })
		cancel()
		if err := <-ended; err == nil {
			t.Errorf("%s ended by itself", path)
		}
		until(t, path+" has ended", func() bool { s := n.service.Stats(); return s.OpenPolls+s.OpenStreams == 0 })
	}
	odoo := n.raw(t)
	body := `{"params":{"channels":["a"],"last":1}}`
	fmt.Fprintf(odoo, "POST /longpolling/poll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	until(t, "Odoo's poll is open", func() bool { return n.service.Stats().OpenPolls == 1 })
	odoo.Close()
	until(t, "Odoo's poll has ended", func() bool { return n.service.Stats().OpenPolls == 0 })
}

// raw opens a connection of the HTTP side.
func (n *node) raw(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.base, "http://"))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(longest)))
	return conn
}

func TestBodyThatComesSlowlyIsReadAndOneThatIsCutIsNot(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	body := `{"messages":[{"channel":"a","payload":"slow"}]}`
	conn := n.raw(t)
	fmt.Fprintf(conn, "POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	for i := range len(body) {
		_, err := conn.Write([]byte(body[i : i+1]))
		must(t, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	cut := n.raw(t)
	fmt.Fprintf(cut, "POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body)+1, body)
	must(t, cut.(*net.TCPConn).CloseWrite())
	_, _ = io.Copy(io.Discard, cut) // an answer or none: nobody reads it
	equal(t, "stored", textsOf(read(t, n.rpc, 1, "a")), []string{"slow"})
	if stored := ask[int](t, sql(t, url), "SELECT count(*) FROM postbus.bus"); stored != 1 {
		t.Errorf("%d stored, want 1", stored)
	}
}

func TestBodyAboveTheBoundIsRefusedByTheLimitsName(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	for _, path := range []string{"/v1/send", "/v1/poll", "/v1/subscribe"} {
		resp, answer := n.asks(t, asking{"POST", path, `{"_":"` + strings.Repeat("x", 9<<20) + `"}`, nil})
		refused(t, resp, answer, 400, "TOO_LARGE")
		if !strings.Contains(answer, "at most 8454144") {
			t.Errorf("%s: %.300s", path, answer)
		}
	}
}

func TestGrpcTimeoutIsTheDeadlineOfAPoll(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{PollTimeout: 50 * time.Second})
	for _, timeout := range []string{"200m", "1S", "300000u"} {
		// Without it the poll would wait longer than the test.
		resp, answer := n.asks(t, asking{"GET", "/v1/poll?channels=a", "", []string{"Grpc-Timeout", timeout}})
		if resp.StatusCode != 200 || answer != `{"notifications":[],"last":0}`+"\n" {
			t.Errorf("Grpc-Timeout %s: %s %s", timeout, resp.Status, answer)
		}
	}
	for _, timeout := range []string{"1", "S", "-1S", "123456789S", "1x", "1.5S"} {
		resp, answer := n.asks(t, asking{"GET", "/v1/poll?channels=a", "", []string{"Grpc-Timeout", timeout}})
		refused(t, resp, answer, 400, "INVALID_FIELD")
	}
}

func TestLinesComeAtOnceAndBeat(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	results := n.send(t, message("a", "first"), message("b", "x"))
	l := n.lines(t, "/v1/subscribe?channels=a&after=0&heartbeat=1s")
	h := l.resp.Header
	if l.resp.StatusCode != 200 || h.Get("Content-Type") != "application/x-ndjson" || h.Get("Cache-Control") != "no-store" || h.Get("X-Accel-Buffering") != "no" {
		t.Errorf("%s %v", l.resp.Status, h)
	}
	got := pageOf(t, []byte(l.next()))
	for len(got.Notifications) == 0 { // it may not be settled yet
		got = pageOf(t, []byte(l.next()))
	}
	if len(got.Notifications) != 1 || string(got.Notifications[0].Payload) != `"first"` {
		t.Errorf("%+v", got)
	}
	want := fmt.Sprintf(`{"notifications":[],"last":%d}`, results[1].Id)
	for range 2 {
		if beat := l.next(); beat != want {
			t.Errorf("heartbeat %s, want %s", beat, want)
		}
	}
	n.stop()
	last := pageOf(t, []byte(l.next()))
	if last.Last != results[1].Id {
		t.Errorf("the last line's last is %d, want %d", last.Last, results[1].Id)
	}
	end := l.next()
	if !strings.HasPrefix(end, `{"error":{"code":14,"status":"UNAVAILABLE","reason":"DRAINING","message":"`) {
		t.Errorf("then %s", end)
	}
	if rest, err := io.ReadAll(l.r); err != nil || len(rest) > 0 {
		t.Errorf("behind the end: %q, %v", rest, err)
	}
}

func TestReadersAboveTheBoundGet429AndAreTakenInLater(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{MaxReaders: 2})
	first := n.lines(t, "/v1/subscribe?channels=a&heartbeat=50s")
	first.next()
	n.subscribe(t, 0, "a")
	for _, path := range []string{"/v1/poll?channels=a", "/v1/subscribe?channels=a"} {
		resp, answer := n.asks(t, asking{"GET", path, "", nil})
		refused(t, resp, answer, 429, "TOO_MANY_READERS")
		if resp.Header.Get("Retry-After") == "" || !strings.Contains(answer, "google.rpc.RetryInfo") {
			t.Errorf("%v %s", resp.Header, answer)
		}
	}
	n.send(t, message("a", "goes on"))
	if got := pageOf(t, []byte(first.next())); len(got.Notifications) != 1 {
		t.Errorf("the others are disturbed: %+v", got)
	}
	first.close()
	until(t, "there is room again", func() bool { code, _ := n.fetch(t, "/v1/poll?channels=a&timeout=0s"); return code == 200 })
}
