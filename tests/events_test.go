package tests

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// An eventSource reads /v1/subscribe as server-sent events.
type eventSource struct {
	t    testing.TB
	body io.Closer
	r    *bufio.Reader
	id   string // what a browser would go on with
}

// events opens a stream of events; last is what a browser goes on with, if anything.
func (n *node) events(t testing.TB, path, last string) *eventSource {
	t.Helper()
	a := asking{method: "GET", path: path, header: []string{"Accept", "text/event-stream"}}
	if last != "" {
		a.header = append(a.header, "Last-Event-ID", last)
	}
	return eventsOf(t, n.open(t, a))
}

func eventsOf(t testing.TB, resp *http.Response) *eventSource {
	t.Helper()
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	return &eventSource{t: t, body: resp.Body, r: bufio.NewReader(resp.Body)}
}

// event returns the next one's name and data, "" and "" at the end.
func (e *eventSource) event() (name, data string) {
	e.t.Helper()
	for {
		line, err := e.r.ReadString('\n')
		if err == io.EOF && line == "" {
			return "", ""
		}
		if err != nil {
			e.t.Fatalf("%v after %q", err, line)
		}
		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); field {
		case "event":
			name = value
		case "data":
			data = value
		case "id":
			e.id = value
		case "":
			return name, data
		}
	}
}

// next returns the next event as the response that it is.
func (e *eventSource) next() string {
	e.t.Helper()
	switch name, data := e.event(); {
	case name == "" && data != "":
		return fmt.Sprintf(`{"notifications":[%s],"last":%s}`, data, e.id)
	case name == "position":
		return fmt.Sprintf(`{"notifications":[],"last":%s}`, e.id)
	case name == "gap":
		return fmt.Sprintf(`{"notifications":[],"last":%s,"gap":%s}`, e.id, data)
	default:
		e.t.Fatalf("event %q: %s", name, data)
		return ""
	}
}

func (e *eventSource) close() { e.body.Close() }

// TestSIGTERMGivesEveryStreamItsLastAndEveryPollItsAnswer is the same of gRPC.
func TestSIGTERMGivesEveryEventSourceItsPosition(t *testing.T) {
	s := serve(t, pgtest.Database(t), "--drain-timeout", "50s")
	prior := &http.Transport{Protocols: new(http.Protocols)}
	prior.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(prior.CloseIdleConnections)
	const sources, polls = 30, 10
	var all []*eventSource
	answers := make(chan string, 2*polls)
	for _, web := range []*http.Client{s.http, {Transport: prior}} {
		for range sources {
			req, err := http.NewRequestWithContext(short(t), "GET", s.httpURL+"/v1/subscribe?channels=read&heartbeat=50s", nil)
			must(t, err)
			req.Header.Set("Accept", "text/event-stream")
			resp, err := web.Do(req)
			must(t, err)
			source := eventsOf(t, resp)
			if name, data := source.event(); name != "position" || data != `{"last":0}` {
				t.Fatalf("%s first: %s %s", resp.Proto, name, data)
			}
			all = append(all, source)
		}
		for range polls {
			go func() {
				resp, err := web.Get(s.httpURL + "/v1/poll?channels=read&timeout=50s")
				if err != nil {
					answers <- err.Error()
					return
				}
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				answers <- fmt.Sprint(resp.Status, " ", strings.TrimSpace(string(text)), err)
			}()
		}
	}
	s.awaitMetric(t, "postbus_polls", 2*polls)
	head := send(t, s.bus, jsonMessage("other", "1"), jsonMessage("other", "2"))
	asked := time.Now()
	s.signal(t, syscall.SIGTERM)
	for range 2 * polls {
		if got, want := <-answers, fmt.Sprintf(`200 OK {"notifications":[],"last":%d}<nil>`, head); got != want {
			t.Errorf("a waiting poll: %s, want %s", got, want)
		}
	}
	for _, source := range all {
		name, data := source.event()
		if name != "position" || source.id != fmt.Sprint(head) {
			t.Errorf("the last event but one: %s %s, want position %d", name, data, head)
		}
		name, data = source.event()
		if name != "fault" || !strings.Contains(data, `"reason":"DRAINING"`) || source.id != fmt.Sprint(head) {
			t.Errorf("the last event: %s %s", name, data)
		}
		if name, data = source.event(); name+data != "" {
			t.Errorf("behind the end: %s %s", name, data)
		}
	}
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(asked); took > 40*time.Second {
		t.Errorf("the stop took %v: something held it up until its deadline", took)
	}
}
