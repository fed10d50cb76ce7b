package service_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// The form, to the last byte, of what openapi.json describes as Events.
func TestEventsHaveIdsAndPositions(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := start(t, url, nodeOptions{})
	schemas := loadSchemas(t)
	before := n.events(t, "channels=orders&channels=other&heartbeat=1s")
	before.expect(t, position(0))
	if _, answer := n.do(t, "POST", "/v1/send", `{"messages":[{"channel":"orders","type":"paid","payload": {"order" : 7},"headers":{"a":"é"}},
		{"channel":"third"},{"channel":"other","binary":"AP8="}]}`); !strings.Contains(string(answer), `"id":3`) {
		t.Fatal(string(answer))
	}
	sent := value[time.Time](t, connect(t, url), "SELECT sent_at FROM postbus.bus WHERE id = 1").UTC().Format(time.RFC3339Nano)
	first := event{id: "1", data: `{"id":1,"channel":"orders","type":"paid","payload":{"order":7},"headers":{"a":"é"},"sent_at":"` + sent + `"}`}
	second := event{id: "3", data: `{"id":3,"channel":"other","type":"","binary":"AP8=","headers":{},"sent_at":"` + sent + `"}`}
	schemas.check(t, "Notification", []byte(first.data))
	before.expect(t, first, second, position(3)) // the heartbeat
	schemas.check(t, "Position", []byte(`{"last":3}`))
	n.events(t, "channels=orders&channels=other&after=0").expect(t, position(0), first, second)
	n.events(t, "channels=orders&channels=other&after=1").expect(t, position(1), second)
	n.events(t, "channels=other&after=3").expect(t, position(3))
	n.events(t, "channels=third&after=2").expect(t, position(3))
	n.events(t, "channels=fourth").expect(t, position(3))
	n.events(t, "channels=fourth&after=0").expect(t, position(3))
	if got := before.last; got != "3" {
		t.Errorf("an EventSource holds %q", got)
	}
}

// A browser that breaks off sends what it was given last and, in the query, what it began
// with; the former wins.
func TestEventSourceMissesNothingFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	source := n.events(t, "channels=c")
	source.expect(t, position(0)) // and nothing else
	source.resp.Body.Close()
	var want []string
	for i := range 20 {
		n.send(t, jsonMessage("c", fmt.Sprint(i)))
		want = append(want, fmt.Sprint(i))
	}
	var got []string
	for i, last := 0, source.last; len(got) < len(want); i++ {
		query := "channels=c&heartbeat=50s" // no beat is taken for an answer
		if i%2 == 0 {
			query += "&after=0"
		}
		source = n.events(t, query, "Last-Event-ID", last)
		for range i + 1 {
			if len(got) < len(want) {
				_, payload := source.notification(t)
				got = append(got, payload)
			}
		}
		source.resp.Body.Close()
		last = source.last
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.http.URL+"/v1/subscribe", strings.NewReader(`{"channels":["c"],"after":"3"}`))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	if id, _ := n.eventsOf(t, req, "Last-Event-ID", "18").notification(t); id != 19 {
		t.Errorf("a POST goes on with %d, want 19", id)
	}
	req, err = http.NewRequestWithContext(t.Context(), http.MethodGet, n.http.URL+"/v1/subscribe?channels=c", nil)
	must(t, err)
	req.Header = http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {"1", "1"}}
	resp, err := n.web.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("two Last-Event-ID: %s", resp.Status)
	}
	if id, _ := n.events(t, "channels=c&after=17", "Last-Event-ID", "").notification(t); id != 18 {
		t.Errorf("an empty Last-Event-ID: goes on with %d, want 18", id)
	}
	if line := n.lines(t, nil, "channels=c&after=19").next(t); !strings.HasPrefix(line, `{"notifications":[{"id":20,`) {
		t.Errorf("lines go on with %s", line)
	}
}

// A line break in what was sent is no line break of the stream.
func TestEventsAreOneLineWhateverWasSent(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	source := n.events(t, "channels=a\u2028b")
	source.next(t)
	raw := "[\r\n\"\\r\\n\\u000a\\u2028\",\n\r\"x\u2028\u2029\u0085y\",\t\"data: \\n\\nid: 7\\n\"]"
	body := fmt.Sprintf(`{"messages":[{"channel":"a%[1]sb","type":"t%[1]st","payload":%s,"headers":{"h":"\r\n\n%[1]s"}}]}`, "\u2028", raw)
	if resp, answer := n.do(t, "POST", "/v1/send", body); resp.StatusCode != 200 {
		t.Fatal(resp.Status, string(answer))
	}
	got := source.next(t)
	const want = "\"payload\":[\"\\r\\n\\u000a\\u2028\",\"x\u2028\u2029\u0085y\",\"data: \\n\\nid: 7\\n\"],\"headers\":{\"h\":\"\\r\\n\\n\\u2028\"},"
	if got.id != "1" || got.kind != "" || !strings.Contains(got.data, want) {
		t.Errorf("got %+v\nwant %s", got, want)
	}
	loadSchemas(t).check(t, "Notification", []byte(got.data))
}

func TestGapIsAnEventBeforeWhatFollowsIt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	trimmed := trimmedLog(t, url)
	n := start(t, url, nodeOptions{})
	told := event{"gap", fmt.Sprint(trimmed), fmt.Sprintf(`{"reason":"REASON_TRIMMED","after":4,"until":%d}`, trimmed)}
	loadSchemas(t).check(t, "Gap", []byte(told.data))
	n.events(t, "channels=c&after=4").expect(t, told, position(trimmed))
	n.events(t, "channels=c&after=0").expect(t, position(trimmed))
	ahead := event{"gap", fmt.Sprint(trimmed), fmt.Sprintf(`{"reason":"REASON_AHEAD","after":%d,"until":%[1]d}`, trimmed)}
	n.events(t, "channels=c", "Last-Event-ID", "9223372036854775807").expect(t, ahead, position(trimmed))
	id := n.send(t, jsonMessage("c", "1"))
	source := n.events(t, "channels=c&after=4")
	source.expect(t, told, position(trimmed))
	if got, _ := source.notification(t); got != id {
		t.Errorf("behind the gap %d, want %d", got, id)
	}
}

// TestDrainAnswersPollsAndRefusesWhatComesLater is the same of the other ways.
func TestDrainGivesEventSourcesTheirPositionAndAFault(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	source := n.events(t, "channels=c")
	source.expect(t, position(0))
	id := n.send(t, jsonMessage("other", "1"))
	until(t, "it is settled", func() bool { return int64(n.dispatcher.State().Pos) == id })
	n.dispatcher.Drain()
	source.expect(t, position(id))
	source.expectFault(t, "DRAINING", time.Second)
	n.events(t, "channels=c").expectFault(t, "DRAINING", time.Second)
}

// What passes is a 200 that says when to come back; what retrying cannot cure is none. The
// other forms have statuses of their own.
func TestPassingFaultsAreEvents(t *testing.T) {
	t.Parallel()
	const (
		origin = "https://app.example.com"
		most   = 6 // connections: those that are about to close count, too
	)
	server := pgtest.Exclusive(t, nil)
	n := start(t, pgtest.DatabaseOn(t, server), nodeOptions{MaxReaders: 2, MaxRequests: 1, MaxConnections: most, CORSOrigins: []string{origin}})
	first, second := n.events(t, "channels=c&heartbeat=1s"), n.events(t, "channels=c")
	first.expect(t, position(0))
	second.expect(t, position(0))
	refused := func(reason string, status int, base time.Duration, query string) {
		t.Helper()
		source := n.events(t, query, "Origin", origin)
		if source.resp.Header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%s cannot be read by the page: %v", reason, source.resp.Header)
		}
		source.expectFault(t, reason, base)
		if resp, answer := n.do(t, "GET", "/v1/subscribe?"+query, ""); resp.StatusCode != status || !strings.Contains(string(answer), `"reason":"`+reason+`"`) {
			t.Errorf("lines: %s %s, want %d %s", resp.Status, answer, status, reason)
		}
	}
	refused("TOO_MANY_READERS", 429, 5*time.Second, "channels=c")
	second.resp.Body.Close()
	until(t, "one has left", func() bool { return n.service.Stats().OpenStreams == 1 })

	body, unfinished := io.Pipe()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		req, _ := http.NewRequestWithContext(t.Context(), "POST", n.http.URL+"/v1/send", body)
		req.Header.Set("Content-Type", "application/json")
		if resp, err := n.web.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	_, err := unfinished.Write([]byte("{"))
	must(t, err)
	until(t, "it is being received", func() bool { return n.service.Stats().Requests == 1 })
	refused("TOO_MANY_REQUESTS", 429, time.Second, "channels=c")
	must(t, unfinished.CloseWithError(io.ErrUnexpectedEOF))
	<-sending
	until(t, "its place is free", func() bool { return n.service.Stats().Requests == 0 })

	must(t, server.StopImmediate(short(t)))
	refused("DATABASE_UNAVAILABLE", 503, time.Second, "channels=c&after=99") // which only the database can judge
	must(t, server.Restart(short(t)))

	others := *n
	others.web = ownConnections(t)
	held := others.events(t, "channels=c")
	held.expect(t, position(0))
	n = &others
	for n.service.Stats().HTTPGuests < most {
		resp, err := ownConnections(t).Get(n.http.URL + "/openapi.json") // its connection stays
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
	}
	n.web = ownConnections(t)
	refused("TOO_MANY_CONNECTIONS", 429, 5*time.Second, "channels=c")
	if beat := first.next(t); beat.kind != "position" {
		t.Errorf("who is inside is told %+v", beat)
	}
}

// ownConnections returns a client that shares none.
func ownConnections(t *testing.T) *http.Client {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestAcceptChoosesTheForm(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	const lines, events = "application/x-ndjson", "text/event-stream"
	for _, c := range []struct {
		accept []string
		want   string
	}{
		{nil, lines}, {[]string{""}, lines}, {[]string{"*/*"}, lines}, {[]string{"text/*"}, lines}, {[]string{"application/json"}, lines},
		{[]string{"text/event-stream"}, events}, {[]string{"Text/Event-Stream; charset=utf-8"}, events},
		{[]string{"application/x-ndjson", "text/event-stream"}, events}, {[]string{"*/*, text/event-stream ;q=0.1"}, events},
		{[]string{"text/event-stream;q=0"}, lines}, {[]string{"text/event-stream; q=0.000, */*"}, lines},
		{[]string{"text/event-streams, x/text/event-stream"}, lines}, {[]string{`;;,,="`}, lines},
	} {
		req, err := http.NewRequestWithContext(short(t), http.MethodGet, n.http.URL+"/v1/subscribe?channels=c", nil)
		must(t, err)
		req.Header["Accept"] = c.accept
		resp, err := n.web.Do(req)
		must(t, err)
		if got := resp.Header.Get("Content-Type"); got != c.want || resp.StatusCode != 200 {
			t.Errorf("Accept %q: %s, %s", c.accept, resp.Status, got)
		}
		resp.Body.Close()
	}
}
