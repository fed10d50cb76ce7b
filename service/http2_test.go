package service_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// TestHTTP2ServesStreamsAndPolls on one connection, to a client that begins with HTTP/2.
func TestHTTP2ServesStreamsAndPolls(t *testing.T) {
	t.Parallel()
	const streams = 150 // more than most servers let one connection have
	n := start(t, pgtest.Database(t), nodeOptions{})
	n.web = http2Client(t)
	polled := make(chan string, 1)
	var all []*eventStream
	for range streams {
		source := n.events(t, "channels=c&heartbeat=50s")
		source.expect(t, position(0))
		all = append(all, source)
	}
	lines := n.lines(t, nil, "channels=c")
	lines.next(t)
	go func() {
		defer close(polled)
		_, answer := n.do(t, "POST", "/v1/poll", `{"channels":["c"]}`)
		polled <- string(answer)
	}()
	until(t, "the poll is parked", func() bool { return n.service.Stats().OpenPolls == 1 })
	if resp, answer := n.do(t, "POST", "/v1/send", `{"messages":[{"channel":"c","payload":7}]}`); resp.ProtoMajor != 2 || resp.StatusCode != 200 {
		t.Fatal(resp.Proto, resp.Status, string(answer))
	}
	for i, source := range all {
		if id, payload := source.notification(t); id != 1 || payload != "7" {
			t.Errorf("stream %d: %d %s", i, id, payload)
		}
	}
	if line := lines.next(t); !strings.Contains(line, `"id":1,`) {
		t.Error(line)
	}
	if answer := <-polled; !strings.Contains(answer, `"id":1,`) {
		t.Error(answer)
	}
	if stats := n.service.Stats(); stats.HTTPGuests != 1 || stats.OpenStreams != streams+1 {
		t.Errorf("%+v", stats)
	}
	for name, c := range map[string]struct {
		path   string
		header []string
		status int
		reason string
	}{
		"no Last-Event-ID": {"/v1/subscribe?channels=c", []string{"Accept", "text/event-stream", "Last-Event-ID", "x"}, 400, "INVALID_FIELD"},
		"foreign host":     {"/v1/poll?channels=c", []string{"Host", "evil.example"}, 403, "FORBIDDEN"},
	} {
		resp, answer := n.do(t, "GET", c.path, "", c.header...)
		if resp.StatusCode != c.status || !strings.Contains(string(answer), c.reason) {
			t.Errorf("%s: %s %s", name, resp.Status, answer)
		}
	}
	begun := time.Now()
	resp, answer := n.do(t, "GET", "/v1/poll?channels=d&timeout=50s", "", "Grpc-Timeout", "2S")
	if resp.StatusCode != 200 || !strings.Contains(string(answer), `{"notifications":[],`) || time.Since(begun) > longest/2 {
		t.Errorf("after %v: %s %s", time.Since(begun), resp.Status, answer)
	}
	n.dispatcher.Drain()
	for _, source := range all {
		source.expect(t, position(1))
		source.expectFault(t, "DRAINING", time.Second)
	}
}

// Who leaves frees the place at once, a poll's too, and is waited for by nobody.
func TestReadersThatLeaveFreeTheirPlace(t *testing.T) {
	t.Parallel()
	const accept, events = "Accept", "text/event-stream"
	n := start(t, pgtest.Database(t), nodeOptions{MaxReaders: 1})
	for name, web := range map[string]*http.Client{"HTTP/1.1": ownConnections(t), "HTTP/2": http2Client(t)} {
		for _, c := range []struct{ method, path, body, accept string }{
			{"GET", "/v1/poll?channels=c&timeout=50s", "", ""},
			{"POST", "/v1/poll", `{"channels":["c"],"timeout":"50s"}`, ""},
			{"POST", "/longpolling/poll", `{"params":{"channels":["c"],"last":1}}`, ""},
			{"GET", "/v1/subscribe?channels=c&heartbeat=50s", "", ""},
			{"GET", "/v1/subscribe?channels=c&heartbeat=50s", "", events},
			{"POST", "/v1/subscribe", `{"channels":["c"],"heartbeat":"50s"}`, events},
		} {
			ctx, leave := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, c.method, n.http.URL+c.path, strings.NewReader(c.body))
			must(t, err)
			req.Header.Set(accept, c.accept)
			req.Header.Set("Content-Type", "application/json")
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if resp, err := web.Do(req); err == nil {
					<-ctx.Done()
					resp.Body.Close()
				}
			}()
			readers := func() int64 { s := n.service.Stats(); return s.OpenPolls + s.OpenStreams }
			what := fmt.Sprintf("%s %s %s %s", name, c.method, c.path, c.accept)
			until(t, what+" is open", func() bool { return readers() == 1 })
			leave()
			<-ended
			until(t, what+" is let go", func() bool { return readers() == 0 && n.dispatcher.State().Subscriptions == 0 })
		}
	}
}
