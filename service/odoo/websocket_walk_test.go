package odoo

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

func TestOdooSocketSitsOutAShortOutage(t *testing.T) {
	one := dispatch.Batch{Notifications: []*bus.Notification{{ID: 1, JSON: "7"}}, Last: 1}
	for away, code := range map[time.Duration]int{patience - maxPause: 0, 2 * patience: websocket.CloseTryAgainLater} {
		until := new(time.Time)
		inMemory(t, quietBus{give: one, away: until}, func(t *testing.T, _ *Handler, client *websocket.Conn) {
			*until = time.Now().Add(away)
			subscribeTo(t, client, `["a"]`)
			if code > 0 {
				if got := ended(client); got != code {
					t.Errorf("away for %v: ended with %d, want %d", away, got, code)
				}
				return
			}
			if _, got, err := client.ReadMessage(); err != nil || string(got) != `[{"id":1,"message":{"type":"","payload":7}}]` {
				t.Errorf("away for %v: %s, %v", away, got, err)
			}
		})
	}
}

// TestOdooSocketForgetsNoLastThatItNeverBeganFrom: a client whose first frame names its last, and
// whose second one comes before the first could be served.
func TestOdooSocketForgetsNoLastThatItNeverBeganFrom(t *testing.T) {
	for _, c := range []struct {
		lasts []string
		want  bus.ID
	}{
		{[]string{"40"}, 40}, {[]string{"40", "0"}, 40}, {[]string{"0", "40"}, 40}, {[]string{"-1"}, 0}, {[]string{"0", "0"}, 30},
	} {
		busy := new(slowBus)
		inMemory(t, busy, func(t *testing.T, _ *Handler, client *websocket.Conn) {
			busy.began = make(chan bus.ID, 1) // the bubble's
			go ended(client)
			for _, last := range c.lasts {
				frame := `{"event_name":"subscribe","data":{"channels":["a"],"last":` + last + `}}`
				if err := client.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			busy.ready.Store(true)
			if got := <-busy.began; got != c.want {
				t.Errorf("last %v: begins at %d, want %d", c.lasts, got, c.want)
			}
		})
	}
}

// A slowBus is a Core that is not ready at once.
type slowBus struct {
	quietBus
	ready atomic.Bool
	began chan bus.ID
}

func (*slowBus) IDBefore(context.Context, time.Duration) (bus.ID, error) { return 30, nil }
func (s *slowBus) Walk(ctx context.Context, w Walk) error {
	if !s.ready.Load() {
		return bus.ErrUnavailable
	}
	s.began <- *w.After
	if err := w.Give(s.give); err != nil {
		return err
	}
	select {
	case <-time.After(w.Heartbeat):
		if err := w.Give(dispatch.Batch{Last: 90}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestOdooSocketBeginsBetweenWhatWasGivenAndWhatWasRead: of a walk that was given 5 and has read up
// to 90.
func TestOdooSocketBeginsBetweenWhatWasGivenAndWhatWasRead(t *testing.T) {
	for last, want := range map[string]bus.ID{"0": 5, "-1": 5, "3": 5, "5": 5, "60": 60, "90": 90, "91": 5, "1000": 5} {
		core := new(slowBus)
		core.ready.Store(true)
		core.give = dispatch.Batch{Notifications: []*bus.Notification{{ID: 5, JSON: "7"}}, Last: 5}
		inMemory(t, core, func(t *testing.T, _ *Handler, client *websocket.Conn) {
			core.began = make(chan bus.ID, 1)
			go ended(client)
			subscribeTo(t, client, `["a"]`)
			<-core.began
			synctest.Wait()
			time.Sleep(walkBeat)
			synctest.Wait()
			frame := `{"event_name":"subscribe","data":{"channels":["a","b"],"last":` + last + `}}`
			if err := client.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
				t.Fatal(err)
			}
			if got := <-core.began; got != want {
				t.Errorf("last %s: begins at %d, want %d", last, got, want)
			}
		})
	}
}

// A brokenBus is a Core whose walks fail, or panic, and that notes what the operator is told.
type brokenBus struct {
	quietBus
	walk func() error
	told atomic.Value
}

func (b *brokenBus) Walk(context.Context, Walk) error { return b.walk() }
func (b *brokenBus) Fault(_ context.Context, _ string, err error) (string, string) {
	b.told.Store(err.Error())
	return "", ""
}

func TestOdooSocketEndsWith1011OnAFaultOfTheServer(t *testing.T) {
	for name, walk := range map[string]func() error{
		"an error": func() error { return errors.New("the cause") },
		"a panic":  func() error { panic("the cause") },
	} {
		core := &brokenBus{walk: walk}
		inMemory(t, core, func(t *testing.T, _ *Handler, client *websocket.Conn) {
			subscribeTo(t, client, `["a"]`)
			if code := ended(client); code != websocket.CloseInternalServerErr {
				t.Errorf("%s: ended with %d, want 1011", name, code)
			}
			if told, _ := core.told.Load().(string); !strings.Contains(told, "the cause") {
				t.Errorf("%s: the operator is told %q", name, told)
			}
		})
	}
}

// TestOdooSocketIsRefusedWhileTheNodeStops: behind Drain.
func TestOdooSocketIsRefusedWhileTheNodeStops(t *testing.T) {
	core := &refusingBus{}
	h, err := New(Options{Core: core})
	if err != nil {
		t.Fatal(err)
	}
	h.Drain()
	r := httptest.NewRequest(http.MethodGet, "/websocket", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Origin": "null", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(name, value)
	}
	h.webSocket(httptest.NewRecorder(), r)
	if !errors.Is(core.refused, bus.ErrDraining) {
		t.Errorf("refused with %v", core.refused)
	}
}

type refusingBus struct {
	quietBus
	refused error
}

func (r *refusingBus) Refuse(_ http.ResponseWriter, _ *http.Request, err error) { r.refused = err }
