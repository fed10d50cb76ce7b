package odoo

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// A quietBus is a Core on which nothing happens, for what only time does to a socket.
type quietBus struct {
	Core
	give dispatch.Batch // first of all; then nothing
	away *time.Time     // until then the database is
}

func (quietBus) Enter() (func(), error)       { return func() {}, nil }
func (quietBus) CheckChannels([]string) error { return nil }
func (quietBus) TakeRoom(int64) bool          { return true }
func (quietBus) GiveRoom(int64)               {}
func (q quietBus) IDBefore(context.Context, time.Duration) (bus.ID, error) {
	if q.away != nil && time.Now().Before(*q.away) {
		return 0, bus.ErrUnavailable
	}
	return 0, nil
}
func (q quietBus) Walk(ctx context.Context, w Walk) error {
	if err := w.Give(q.give); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}
func (quietBus) Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusBadRequest)
}
func (quietBus) Fault(context.Context, string, error) (string, string) { return "", "" }

// pipes is a listener in memory, whose connections a synctest bubble can wait for.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// inMemory runs test in a bubble with a client of a handler on core.
func inMemory(t *testing.T, core Core, test func(t *testing.T, h *Handler, client *websocket.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Options{Core: core, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: h}
		go server.Serve(listener)
		defer server.Close()
		dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) {
			near, far := net.Pipe()
			listener.conns <- far
			return near, nil
		}}
		client, _, err := dialer.Dial("ws://bus/websocket", http.Header{"Origin": {"http://bus"}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			client.Close()
			h.Drain()
			if err := h.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		test(t, h, client)
	})
}

// subscribeTo sends a subscribe frame.
func subscribeTo(t *testing.T, client *websocket.Conn, channels string) {
	t.Helper()
	frame := `{"event_name":"subscribe","data":{"channels":` + channels + `,"last":0}}`
	if err := client.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		t.Fatal(err)
	}
}

// ended reads to the end of the socket and returns the code of it, 0 without a close frame.
func ended(client *websocket.Conn) int {
	for {
		_, _, err := client.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
			return closed.Code
		case err != nil:
			return 0
		}
	}
}
