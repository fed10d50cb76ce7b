package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// Bad input, by every route of HTTP: the program tells what is wrong with a 4xx, or on a socket
// with an error and a code, logs no error of its own, and gives another reader everything.
func TestBadInputDisturbsNobody(t *testing.T) {
	t.Parallel()
	s := serve(t, pgtest.Database(t), "--allowed-hosts", "bus.example")
	b := &behind{served: s, web: strings.TrimPrefix(s.httpURL, "http://")} // nothing is in front of it
	reader := subscribed(t, s.bus, "good")
	many := strings.TrimSuffix(strings.Repeat(`"c",`, 100_000), ",")
	huge := []string{"X-Huge", strings.Repeat("x", 1<<20)}
	for i, c := range []struct {
		method, path, body string
		header             []string
		code               int
		says               string
	}{
		{"POST", "/v1/send", `{`, nil, 400, "MALFORMED_JSON"},
		{"POST", "/v1/send", ``, nil, 400, "MALFORMED_JSON"},
		{"POST", "/v1/send", `{"messages":[{"channel":"good","payload":01}]}`, nil, 400, "MALFORMED_JSON"},
		{"POST", "/v1/send", "{\"messages\":[{\"channel\":\"good\",\"payload\":\"\xff\"}]}", nil, 400, "not valid UTF-8"},
		{"POST", "/v1/poll", `{"channels":["good"]`, nil, 400, "MALFORMED_JSON"},
		{"POST", "/v1/subscribe", `nonsense`, nil, 400, "MALFORMED_JSON"},
		{"POST", "/v1/subscribe", `nonsense`, []string{"Accept", "text/event-stream"}, 400, "MALFORMED_JSON"},
		{"POST", "/v1/send", strings.Repeat("[", 1<<20), nil, 400, "nested 1048576 deep"},
		{"POST", "/longpolling/poll", `{`, nil, 400, ""},
		{"POST", "/v1/send", `{}`, []string{"Content-Type", "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"POST", "/v1/poll", `{}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"POST", "/v1/subscribe", `{}`, []string{"Content-Type", "application/xml"}, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"POST", "/v1/poll", `{"channels":[` + many + `]}`, nil, 400, "more than 1000 channels"},
		{"POST", "/v1/subscribe", `{"channels":[` + many + `]}`, nil, 400, "more than 1000 channels"},
		{"GET", "/v1/subscribe?channels=good", "", []string{"Accept", "text/event-stream", "Last-Event-ID", "latest"}, 400, "Last-Event-ID"},
		{"GET", "/v1/poll?channels=good&after=1e3", "", nil, 400, "after"},
		{"GET", "/v1/poll?channels=" + strings.Repeat("x", 1<<20), "", nil, 431, ""},
		{"GET", "/v1/poll?channels=good", "", huge, 431, ""},
		{"POST", "/v1/poll", `{"channels":["good"]}`, huge, 431, ""},
		{"POST", "/v1/send", `{}`, huge, 431, ""},
		{"GET", "/v1/subscribe?channels=good", "", huge, 431, ""},
		{"GET", "/v1/subscribe?channels=good", "", append([]string{"Accept", "text/event-stream"}, huge...), 431, ""},
		{"GET", "/openapi.json", "", huge, 431, ""},
		{"POST", "/longpolling/poll", `{"params":{"channels":[],"last":0}}`, huge, 431, ""},
		{"POST", "/websocket/peek_notifications", `{}`, huge, 431, ""},
	} {
		code, text := b.asks(t, c.method, c.path, c.body, c.header...)
		if code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%d, %s %.60s of %.60q: %d %.300s; want %d, %s", i, c.method, c.path, c.body, code, text, c.code, c.says)
		}
	}
	for _, frame := range []string{`{`, `[]`, ``, `{"subscribe":{"channels":[` + many + `]}}`, `{"subscribe":{"channels":["good"],"colour":1}}`, `{"shout":{}}`, `{"subscribe":7}`} {
		conn, err := b.socket(t, "/v1/subscribe")
		must(t, err)
		must(t, conn.WriteMessage(websocket.TextMessage, []byte(frame)))
		var answer struct{ Error struct{ Code int } }
		if text := (webSocket{t, conn}).next(); json.Unmarshal([]byte(text), &answer) != nil || answer.Error.Code != 3 {
			t.Errorf("%.60q: %.300s", frame, text)
		}
		conn.Close()
	}
	for _, path := range []string{"/v1/subscribe?channels=good", "/websocket"} {
		text := ended(t, path, raw(t, s.httpURL, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nConnection: Upgrade\r\n"+
			"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Huge: %s\r\n\r\n", path, strings.Repeat("x", 70<<10))))
		if !strings.HasPrefix(text, "HTTP/1.1 431 ") {
			t.Errorf("%s: %.200s", path, text)
		}
	}

	id := send(t, s.bus, jsonMessage("good", `"after it all"`))
	for {
		resp, err := reader.Recv()
		must(t, err)
		if len(resp.Notifications) == 0 {
			continue
		}
		if got := resp.Notifications[0]; got.Id != id || got.GetJson() != `"after it all"` {
			t.Errorf("%v, want id %d alone", resp.Notifications, id)
		}
		break
	}
	if said := s.Stderr.String(); strings.Contains(said, `"level":"ERROR"`) || strings.Contains(said, `"level":"WARN"`) {
		t.Errorf("bad input is logged:\n%s", said)
	}
}
