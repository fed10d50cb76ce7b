package service_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A webSocket is a client of /v1/subscribe.
type webSocket struct {
	t    *testing.T
	conn *websocket.Conn
}

// socket opens a WebSocket until the test ends; header is name and value by turns.
func (n *node) socket(t *testing.T, query string, header ...string) webSocket {
	t.Helper()
	conn, _ := n.handshake(t, websocket.Dialer{}, query, header...)
	return webSocket{t, conn}
}

func (n *node) handshake(t *testing.T, dialer websocket.Dialer, query string, header ...string) (*websocket.Conn, *http.Response) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, resp, err := dialer.DialContext(short(t), "ws"+strings.TrimPrefix(n.http.URL, "http")+"/v1/subscribe"+query, h)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn, resp
}

// stingySocket is socket, of a client whose connection takes in little that is not read.
func (n *node) stingySocket(t *testing.T, query string) webSocket {
	t.Helper()
	conn, _ := n.handshake(t, websocket.Dialer{NetDial: func(network, addr string) (net.Conn, error) {
		conn, err := net.Dial(network, addr)
		if err != nil {
			return nil, err
		}
		return conn, conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	}}, query)
	return webSocket{t, conn}
}

// say sends a frame.
func (ws webSocket) say(text string, args ...any) {
	ws.t.Helper()
	must(ws.t, ws.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, text, args...)))
}

// A serverFrame is whatever a server says.
type serverFrame struct {
	text          string
	Notifications []struct {
		ID      int64
		Channel string
		Payload json.RawMessage
	}
	Last *int64
	Gap  *struct {
		Reason       string
		After, Until int64
	}
	Ack *struct {
		Request *string
		Last    int64
	}
	Error *struct {
		Reason, Message string
		Request         *string
	}
}

func (f serverFrame) beats() bool { return f.Last != nil && len(f.Notifications) == 0 && f.Gap == nil }

func (ws webSocket) read() (f serverFrame, err error) {
	if err := ws.conn.SetReadDeadline(time.Now().Add(longest)); err != nil {
		return f, err
	}
	kind, text, err := ws.conn.ReadMessage()
	if err != nil {
		return f, err
	}
	if kind != websocket.TextMessage {
		return f, fmt.Errorf("a message of kind %d", kind)
	}
	f.text = string(text)
	return f, json.Unmarshal(text, &f)
}

func (ws webSocket) next() serverFrame {
	ws.t.Helper()
	f, err := ws.read()
	must(ws.t, err)
	return f
}

// acked reads the answer to a frame and returns its last; responses before it are given
// to each.
func (ws webSocket) acked(request string, each ...func(serverFrame)) int64 {
	ws.t.Helper()
	for {
		f := ws.next()
		switch {
		case f.Last != nil && f.Ack == nil && f.Error == nil:
			for _, see := range each {
				see(f)
			}
		case f.Ack == nil || f.Ack.Request == nil || *f.Ack.Request != request:
			ws.t.Fatalf("got %s, want an ack of %q", f.text, request)
		default:
			return f.Ack.Last
		}
	}
}

// beat reads a response without notifications and returns its last.
func (ws webSocket) beat() int64 {
	ws.t.Helper()
	f := ws.next()
	if !f.beats() {
		ws.t.Fatalf("got %s, want a response without notifications", f.text)
	}
	return *f.Last
}

// refused reads the refusal of a frame, of the socket if request is "-", and returns its
// message.
func (ws webSocket) refused(request, reason string) string {
	ws.t.Helper()
	f := ws.next()
	got := "-"
	if f.Error != nil && f.Error.Request != nil {
		got = *f.Error.Request
	}
	if f.Error == nil || got != request || f.Error.Reason != reason {
		ws.t.Fatalf("got %s, want %s of request %q", f.text, reason, request)
	}
	return f.Error.Message
}

// ended wants the end, with this code.
func (ws webSocket) ended(code int) {
	ws.t.Helper()
	f, err := ws.read()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != code {
		ws.t.Fatalf("got %s %v, want the end with %d", f.text, err, code)
	}
}

// id reads one notification and returns its id.
func (ws webSocket) id() int64 {
	ws.t.Helper()
	ids := ws.ids(1)
	if len(ids) == 0 {
		ws.t.FailNow()
	}
	return ids[0]
}

// ids reads count notifications and returns their ids.
func (ws webSocket) ids(count int) (ids []int64) {
	ws.t.Helper()
	over := time.Now().Add(longest) // heartbeats go on
	for len(ids) < count {
		f, err := ws.read()
		if err != nil || f.Last == nil || time.Now().After(over) {
			ws.t.Errorf("after %d of %d notifications: %s %v", len(ids), count, f.text, err)
			return ids
		}
		for _, got := range f.Notifications {
			ids = append(ids, got.ID)
		}
	}
	return ids
}
