package service_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An event is what an EventSource makes of one.
type event struct {
	kind string // "" is message
	id   string // that it has itself
	data string
}

// An eventStream reads /v1/subscribe as the HTML standard says that an EventSource does.
type eventStream struct {
	resp  *http.Response
	r     *bufio.Scanner
	last  string // the last id
	retry string
}

// events opens a stream of events; header is name and value by turns.
func (n *node) events(t *testing.T, query string, header ...string) *eventStream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.http.URL+"/v1/subscribe?"+query, nil)
	must(t, err)
	return n.eventsOf(t, req, header...)
}

func (n *node) eventsOf(t *testing.T, req *http.Request, header ...string) *eventStream {
	t.Helper()
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.web.Do(req)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%s, %s: an EventSource never comes back", resp.Status, kind)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"} {
		if got := strings.Join(resp.Header.Values(name), ", "); !strings.Contains(got, want) {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	r := bufio.NewScanner(resp.Body)
	r.Buffer(nil, 4<<20)
	r.Split(splitEventLines)
	return &eventStream{resp: resp, r: r}
}

// splitEventLines ends a line at "\n", "\r\n" and "\r". (A "\r\n" that is cut makes one more,
// which is empty; this server writes none.)
func splitEventLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	for i, c := range data {
		switch {
		case c == '\n', c == '\r' && (i+1 == len(data) || data[i+1] != '\n'):
			return i + 1, data[:i], nil
		case c == '\r':
			return i + 2, data[:i], nil
		}
	}
	return 0, nil, nil // a rest without an end is dropped
}

// read returns the next event, false at the end of the stream. It ends the stream if none
// comes.
func (e *eventStream) read(t *testing.T) (event, bool) {
	t.Helper()
	end := time.AfterFunc(longest, func() { e.resp.Body.Close() })
	defer end.Stop()
	var got event
	var data []string
	for e.r.Scan() {
		line := e.r.Text()
		if line == "" {
			if data == nil { // an EventSource fires nothing
				got = event{}
				continue
			}
			got.data = strings.Join(data, "\n")
			return got, true
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			got.kind = value
		case "data":
			data = append(data, value)
		case "id":
			got.id, e.last = value, value
		case "retry":
			e.retry = value
		default:
			t.Errorf("line %q", line)
		}
	}
	return got, false
}

func (e *eventStream) next(t *testing.T) event {
	t.Helper()
	got, ok := e.read(t)
	if !ok {
		t.Fatalf("the stream ended: %v", e.r.Err())
	}
	return got
}

func (e *eventStream) expect(t *testing.T, want ...event) {
	t.Helper()
	for _, w := range want {
		if got := e.next(t); got != w {
			t.Fatalf("got %+v\nwant %+v", got, w)
		}
	}
}

// expectFault expects the last event, a pause before the next try of base to twice as
// long, and the end.
func (e *eventStream) expectFault(t *testing.T, reason string, base time.Duration) {
	t.Helper()
	got := e.next(t)
	loadSchemas(t).check(t, "Error", []byte(got.data))
	if got.kind != "fault" || got.id != "" || !strings.Contains(got.data, `"reason":"`+reason+`"`) {
		t.Errorf("got %+v, want the fault %s", got, reason)
	}
	var ms int
	if _, err := fmt.Sscanf(e.retry, "%d", &ms); err != nil || ms < int(base.Milliseconds()) || ms >= 2*int(base.Milliseconds()) {
		t.Errorf("retry: %s, want %v to twice that", e.retry, base)
	}
	if more, ok := e.read(t); ok {
		t.Errorf("behind a fault comes %+v", more)
	}
}

func position(last int64) event {
	return event{kind: "position", id: fmt.Sprint(last), data: fmt.Sprintf(`{"last":%d}`, last)}
}

// notification reads the next notification, and passes positions.
func (e *eventStream) notification(t *testing.T) (id int64, payload string) {
	t.Helper()
	got := e.next(t)
	for got.kind == "position" {
		got = e.next(t)
	}
	var n struct {
		ID      int64
		Payload json.RawMessage
	}
	must(t, json.Unmarshal([]byte(got.data), &n))
	if got.kind != "" || got.id != fmt.Sprint(n.ID) {
		t.Fatalf("got %+v", got)
	}
	return n.ID, string(n.Payload)
}
