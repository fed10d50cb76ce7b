package tests

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

func subscribePath(channel string) string {
	heartbeat, _ := quiet()
	return fmt.Sprintf("/v1/subscribe?channels=%s&heartbeat=%v", channel, heartbeat)
}

func quietLines(t *testing.T, b *behind, _ bool) {
	l := &lineStream{t: t, resp: b.stream(t, subscribePath("lines"))}
	l.r = bufio.NewReader(l.resp.Body)
	b.outlasts(t, "lines", l.next)
}

func quietEvents(t *testing.T, b *behind, _ bool) {
	b.outlasts(t, "events", eventsOf(t, b.stream(t, subscribePath("events"), "Accept", "text/event-stream")).next)
}

// Without the lines of the page nginx passes no handshake on.
func quietSocket(t *testing.T, b *behind, documented bool) {
	conn, err := b.socket(t, subscribePath("socket"))
	if !documented {
		if err == nil {
			t.Error("a WebSocket gets through, so the page asks for too much")
		}
		return
	}
	must(t, err)
	b.outlasts(t, "socket", webSocket{t, conn}.next)
}

func quietStream(t *testing.T, b *behind, _ bool) {
	heartbeat, beats := quiet()
	stream, err := b.bus.Subscribe(t.Context(), &postbusv1.SubscribeRequest{Channels: []string{"rpc"}, Heartbeat: durationpb.New(heartbeat)})
	must(t, err)
	for range 1 + beats {
		if resp, err := stream.Recv(); err != nil || len(resp.Notifications) > 0 {
			t.Fatal(resp, err)
		}
	}
	send(t, b.bus, jsonMessage("rpc", `1`))
	for {
		resp, err := stream.Recv()
		must(t, err)
		if len(resp.Notifications) > 0 {
			return
		}
	}
}

// A poll that finds nothing is answered before nginx's time is over.
func quietPolls(t *testing.T, b *behind, _ bool) {
	for _, timeout := range map[bool][]string{true: {"2s"}, false: {"25s", "50s"}}[os.Getenv("POSTBUS_TEST_LONG") == ""] {
		t.Run(timeout, func(t *testing.T) {
			t.Parallel()
			code, text := b.asks(t, "GET", "/v1/poll?channels=quiet&timeout="+timeout, "")
			if code != 200 || !strings.HasPrefix(text, `{"notifications":[],"last":`) {
				t.Errorf("%d %s", code, text)
			}
		})
	}
}

// Odoo's times are fixed: it is asked in the long tests, and only for an answer in the others.
func quietOdoo(t *testing.T, b *behind, documented bool) {
	long := os.Getenv("POSTBUS_TEST_LONG") != ""
	b.odooPolls(t, long)
	conn, err := b.socket(t, "/websocket")
	if !documented {
		if err == nil {
			t.Error("a WebSocket gets through, so the page asks for too much")
		}
		return
	}
	must(t, err)
	webSocket{t, conn}.say(`{"event_name":"subscribe","data":{"channels":["socket of odoo"],"last":0}}`)
	if long { // the socket is read meanwhile, or it would answer no ping
		sent := make(chan struct{})
		timer := time.AfterFunc(70*time.Second, func() {
			defer close(sent)
			send(t, b.bus, jsonMessage("socket of odoo", `7`))
		})
		defer func() {
			if !timer.Stop() {
				<-sent
			}
		}()
	} else {
		send(t, b.bus, jsonMessage("socket of odoo", `7`))
	}
	if text := (webSocket{t, conn}).next(); !strings.Contains(text, `"payload":7`) {
		t.Error(text)
	}
}

// odooPolls has a poll answered by a message, or by the 50 s that it waits at most.
func (b *behind) odooPolls(t *testing.T, long bool) {
	t.Helper()
	last, want := int64(0), 0
	if !long {
		last, want = send(t, b.bus, jsonMessage("odoo", `1`))-1, 1
	}
	code, text := b.asks(t, "POST", "/longpolling/poll", fmt.Sprintf(`{"jsonrpc":"2.0","method":"call","id":1,"params":{"channels":["odoo"],"last":%d}}`, last))
	if code != 200 || !strings.Contains(text, `"result":`) || strings.Count(text, `"payload":`) != want {
		t.Errorf("%d %s, want %d notifications", code, text, want)
	}
}

// The largest Send is refused by nginx unless it is told of it.
func largeSends(t *testing.T, b *behind, documented bool) {
	payload := `"` + strings.Repeat("x", 900<<10) + `"`
	messages := strings.TrimSuffix(strings.Repeat(`{"channel":"large","payload":`+payload+`},`, 4), ",")
	code, text := b.asks(t, "POST", "/v1/send", `{"messages":[`+messages+`]}`)
	if want := map[bool]int{true: 200, false: 413}[documented]; code != want {
		t.Errorf("%d %.300s, want %d", code, text, want)
	}
	large := jsonMessage("large", payload)
	_, err := b.bus.Send(short(t), sendRequest(large, large, large, large))
	if (err == nil) != documented {
		t.Errorf("over gRPC: %v", err)
	}
}

// A page that nginx serves too is of the node's own origin if nginx passes the name on.
func ownPages(t *testing.T, b *behind, documented bool) {
	for origin, want := range map[string]int{"http://bus.example": map[bool]int{true: 200, false: 403}[documented], "http://elsewhere.example": 403} {
		if code, text := b.asks(t, "POST", "/v1/send", `{"messages":[{"channel":"pages"}]}`, "Origin", origin); code != want {
			t.Errorf("%s: %d %s, want %d", origin, code, text, want)
		}
	}
}
