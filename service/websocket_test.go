package service_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

// Every frame is answered once, in order; a response comes at once behind a subscribe; a
// channel that is removed is silent from its ack on; those that are added begin at the
// position of the socket.
func TestSocketChannelsComeAndGo(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	first := n.send(t, jsonMessage("a", "1"))
	second := n.send(t, jsonMessage("b", "2"))
	ws := n.socket(t, "")
	ws.say(`{"subscribe":{"channels":["a"],"after":0},"request":"1"}`)
	if at := ws.acked("1"); at != 0 {
		t.Errorf("began at %d, want 0", at)
	}
	if got := ws.id(); got != first {
		t.Errorf("from the oldest on: %d, want %d", got, first)
	}
	ws.say(`{"subscribe":{"channels":["a","b"],"heartbeat":"50s"}}`)
	if at := ws.acked(""); at < second {
		t.Errorf("a channel was added at %d, before %d, which was there", at, second)
	}
	ws.beat()
	third := n.send(t, jsonMessage("b", "3"))
	if got := ws.id(); got != third {
		t.Errorf("got %d of the channel that was added, want %d", got, third)
	}
	ws.say(`{"unsubscribe":{"channels":["b","never subscribed to"]},"request":"3"}`)
	ws.acked("3")
	n.send(t, jsonMessage("b", "4"))
	fifth := n.send(t, jsonMessage("a", "5"))
	if got := ws.id(); got != fifth {
		t.Errorf("got %d, want %d: b was removed", got, fifth)
	}
	ws.say(`{"unsubscribe":{"channels":["a"]},"request":"4"}`)
	if at := ws.acked("4"); at != fifth {
		t.Errorf("all were removed at %d, want %d", at, fifth)
	}
	sixth := n.send(t, jsonMessage("a", "6"))
	ws.say(`{"subscribe":{"channels":["a"],"after":%d},"request":"5"}`, fifth) // none are there: again it may say where
	ws.acked("5")
	if got := ws.id(); got != sixth {
		t.Errorf("got %d, want %d", got, sixth)
	}
}

// A socket without channels is alive: it says its position as a heartbeat.
func TestSocketWithoutChannelsBeats(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	ws := n.socket(t, "?channels=a&heartbeat=1s")
	ws.beat()
	ws.say(`{"unsubscribe":{"channels":["a"]}}`)
	ws.acked("")
	id := n.send(t, jsonMessage("a", "1"))
	for ws.beat() < id {
	}
}

// The query of the handshake is a first subscribe, without an ack.
func TestSocketBeginsWithItsQuery(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	id := n.send(t, jsonMessage("a", "1"))
	conn, resp := n.handshake(t, websocket.Dialer{Subprotocols: []string{"other", "postbus.v1"}}, "?channels=a&after=0&_x=y")
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "postbus.v1" {
		t.Errorf("subprotocol %q", got)
	}
	ws := webSocket{t, conn}
	if got := ws.id(); got != id {
		t.Errorf("got %d, want %d", got, id)
	}
	ws.say(`{"subscribe":{"channels":["b"],"after":0},"request":"1"}`)
	if said := ws.refused("1", service.ReasonInvalidField); !strings.Contains(said, "subscribe.after: 0, must be absent") {
		t.Error(said)
	}
	if _, resp := n.handshake(t, websocket.Dialer{Subprotocols: []string{"other"}}, ""); resp.Header.Get("Sec-WebSocket-Protocol") != "" {
		t.Errorf("a subprotocol was chosen that is not ours: %v", resp.Header)
	}
}

// What a frame says wrong is told by name, with its request, and costs the socket nothing.
func TestSocketRefusesFramesByNameAndStaysOpen(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	ws := n.socket(t, "?channels=kept")
	ws.beat()
	many := strings.Repeat(`"c",`, 1000) + `"c"`
	others := `"` + strings.Join(numbers(1000), `","`) + `"`
	for _, c := range []struct{ frame, request, reason, says string }{
		{`{`, "", "MALFORMED_JSON", "not JSON"},
		{`[]`, "", "INVALID_FIELD", "body: an array, must be an object"},
		{`null`, "", "INVALID_FIELD", "subscribe: absent"},
		{`{"request":"r"}`, "r", "INVALID_FIELD", "subscribe: absent"},
		{`{"subscribe":{"channels":["a"]},"unsubscribe":{"channels":["a"]},"request":"r"}`, "r", "INVALID_FIELD", "unsubscribe: beside subscribe"},
		{`{"subscrib":{"channels":["a"]},"request":"r"}`, "r", "UNKNOWN_FIELD", "subscrib: not known"},
		{`{"subscribe":{"channel":"a"},"request":"r"}`, "r", "UNKNOWN_FIELD", "subscribe.channel: not known"},
		{`{"unsubscribe":{"channels":["kept"],"after":1},"request":"r"}`, "r", "UNKNOWN_FIELD", "unsubscribe.after: not known"},
		{`{"subscribe":{"channels":[]},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.channels: none, at least 1"},
		{`{"unsubscribe":{},"request":"r"}`, "r", "INVALID_FIELD", "unsubscribe.channels: none, at least 1"},
		{`{"subscribe":{"channels":["a",""]},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.channels[1]: empty"},
		{`{"subscribe":{"channels":["a",7]},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.channels[1]: a number, must be a string"},
		{`{"subscribe":{"channels":["a"],"heartbeat":"51s"},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.heartbeat: 51s, 1s to 50s"},
		{`{"subscribe":{"channels":["a"],"after":-1},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.after: -1, must not be negative"},
		{`{"subscribe":{"channels":["a"],"after":1},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.after: 1, must be absent"},
		{`{"subscribe":{"channels":[` + many + `]},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.channels: more than 1000"},
		{`{"subscribe":{"channels":[` + others + `]},"request":"r"}`, "r", "INVALID_FIELD", "subscribe.channels: 1001 channels with those of the socket, at most 1000"},
		{`{"subscribe":7,"request":"r"}`, "r", "INVALID_FIELD", "subscribe: a number, must be an object"},
		{`{"subscribe":{"channels":["a"]},"request":7}`, "", "INVALID_FIELD", "request: a number, must be a string"},
		{`{"subscribe":{"channels":["a"]},"request":"` + strings.Repeat("r", 256) + `"}`, "", "INVALID_FIELD", "request: 256 bytes, at most 255"},
		{`{"subscribe":{"channels":["a"]},"subscribe":{"channels":["b"]}}`, "", "INVALID_FIELD", "subscribe: named twice"},
	} {
		ws.say("%s", c.frame)
		if said := ws.refused(c.request, c.reason); !strings.Contains(said, c.says) {
			t.Errorf("%.80s\n got %s\nwant %s", c.frame, said, c.says)
		}
	}
	id := n.send(t, jsonMessage("kept", "1"))
	if got := ws.id(); got != id {
		t.Errorf("got %d, want %d", got, id)
	}
	ws.say(`{"_trace":[{}],"subscribe":{"channels":["a"],"_x":1},"request":"%s"}`, strings.Repeat("r", 255))
	ws.acked(strings.Repeat("r", 255))
	ws.beat()
	// The thousandth channel is still taken.
	ws.say(`{"subscribe":{"channels":["%s"]}}`, strings.Join(numbers(998), `","`))
	ws.acked("")
	if ws.beat(); n.service.Stats().OpenStreams != 1 {
		t.Errorf("%+v", n.service.Stats())
	}
	if got := n.dispatcher.State().Subscriptions; got != 1 {
		t.Errorf("%d subscriptions, want 1", got)
	}

	fresh := n.socket(t, "")
	fresh.say(`{"unsubscribe":{"channels":["a"]},"request":"1"}`)
	fresh.refused("1", service.ReasonInvalidField)
}

func numbers(count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprint(i))
	}
	return names
}

// What is no longer there, or never was, is told by a gap, behind the ack.
func TestSocketIsToldOfGaps(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := start(t, url, nodeOptions{})
	id := n.send(t, jsonMessage("a", "1"))
	ws := n.socket(t, "")
	ws.say(`{"subscribe":{"channels":["a"],"after":"%d"},"request":"1"}`, id+1_000_000)
	if at := ws.acked("1"); at != id+1_000_000 {
		t.Errorf("acked at %d", at)
	}
	if f := ws.next(); f.Gap == nil || f.Gap.Reason != "REASON_AHEAD" || *f.Last != id {
		t.Errorf("got %s, want AHEAD and last %d", f.text, id)
	}
	ws.say(`{"subscribe":{"channels":["b"]},"request":"2"}`)
	ws.acked("2")
	if at := ws.beat(); at != id { // and the gap comes once
		t.Errorf("at %d, want %d", at, id)
	}
}

// The gate's refusal, and every other, is an error and a code, behind the handshake.
func TestSocketIsRefusedBehindTheHandshake(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{CORSOrigins: []string{"https://app.example"}, MaxReaders: 2})
	n.send(t, jsonMessage("a", "1"))
	for _, c := range []struct {
		query, name, value, reason, says string
		code                             int
	}{
		{"?channels=a&after=0", "Origin", "https://evil.example", "FORBIDDEN", "evil.example", websocket.ClosePolicyViolation},
		{"?channels=a&after=0", "Origin", "null", "FORBIDDEN", "null", websocket.ClosePolicyViolation},
		{"?channels=a&after=0", "Host", "evil.example", "FORBIDDEN", "evil.example", websocket.ClosePolicyViolation},
		{"?channels=a&after=x", "", "", "INVALID_FIELD", `after: "x"`, websocket.ClosePolicyViolation},
		{"?channel=a", "", "", "UNKNOWN_FIELD", "channel", websocket.ClosePolicyViolation},
		{"?after=1", "", "", "INVALID_FIELD", "channels: none", websocket.ClosePolicyViolation},
		{"?channels=", "", "", "INVALID_FIELD", "channels[0]: empty", websocket.ClosePolicyViolation},
		{"", "Grpc-Timeout", "1", "INVALID_FIELD", "Grpc-Timeout", websocket.ClosePolicyViolation},
	} {
		header := []string{c.name, c.value}
		if c.name == "" {
			header = nil
		}
		ws := n.socket(t, c.query, header...)
		if said := ws.refused("-", c.reason); !strings.Contains(said, c.says) {
			t.Errorf("%s %s: %s", c.query, c.value, said)
		}
		ws.ended(c.code)
	}
	for _, origin := range []string{"https://app.example", n.http.URL} {
		ws := n.socket(t, "?channels=a&after=0", "Origin", origin)
		ws.ids(1)
	}
	late := n.socket(t, "?channels=a&after=0")
	late.refused("-", service.ReasonTooManyReaders)
	late.ended(websocket.CloseTryAgainLater)
}

// A deadline is the client's own end of the socket.
func TestSocketEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	ws := n.socket(t, "?channels=a", "Grpc-Timeout", "500m")
	ws.beat()
	ws.refused("-", service.ReasonDeadlineExceeded)
	ws.beat()
	ws.ended(websocket.CloseNormalClosure)
}
