package tests

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A worker is a client that behaves as Odoo's does: it says what it has, changes its
// channels, and comes back with its last.
type worker struct {
	conn *websocket.Conn
	last int64            // the newest id of all lives
	got  map[string]int64 // payload to id
}

// connect opens a socket of its own.
func (w *worker) connect(t *testing.T, n *node) {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.base, "http")+"/websocket",
		http.Header{"Origin": {"https://shop.example"}})
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(longest)))
	w.conn = conn
}

func (w *worker) subscribe(channels ...string) error {
	return w.conn.WriteJSON(map[string]any{"event_name": "subscribe", "data": map[string]any{"channels": channels, "last": w.last}})
}

// read takes one frame. Its ids are above every one before, over all lives.
func (w *worker) read() error {
	var frame []struct {
		ID      int64
		Message struct{ Payload string }
	}
	if err := w.conn.ReadJSON(&frame); err != nil {
		return err
	}
	if len(frame) == 0 {
		return errors.New("an empty array")
	}
	for _, n := range frame {
		if n.ID <= w.last {
			return fmt.Errorf("id %d after %d", n.ID, w.last)
		}
		w.last = n.ID
		w.got[n.Message.Payload] = n.ID
	}
	return nil
}

// TestOdooSocketIDsNeverGoDownWhileChannelsChange: under traffic, with channels that come and
// go and sockets that close and come back, what is always subscribed to comes whole, each
// once, and every id is above those before it.
func TestOdooSocketIDsNeverGoDownWhileChannelsChange(t *testing.T) {
	t.Parallel()
	const workers, lives, senders = 8, 6, 4
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{WindowBytes: 1 << 20})
	n.send(t, message("always", "first"))
	traffic, stop := context.WithCancel(t.Context())
	var sending, reading sync.WaitGroup
	sent := make([][]string, senders)
	for i := range senders {
		sending.Go(func() {
			for k := 0; traffic.Err() == nil && k < 5_000; k++ {
				text := fmt.Sprintf("%d-%d", i, k)
				n.send(t, message("always", text), message(fmt.Sprint("c", rand.N(5)), "other "+text))
				sent[i] = append(sent[i], text)
			}
		})
	}
	all := make([]*worker, workers)
	for i := range all {
		w := &worker{got: make(map[string]int64)}
		all[i] = w
		reading.Go(func() {
			for range lives {
				w.connect(t, n)
				for range 9 { // a tenth frame is the close
					channels := []string{"always"}
					for c := range 5 {
						if rand.N(2) == 0 {
							channels = append(channels, fmt.Sprint("c", c))
						}
					}
					rand.Shuffle(len(channels), func(i, j int) { channels[i], channels[j] = channels[j], channels[i] })
					err := w.subscribe(channels...)
					for range rand.N(5) {
						if err == nil {
							err = w.read()
						}
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
				w.conn.Close()
			}
			w.connect(t, n)
			if err := w.subscribe("always", "c0", "c1", "c2", "c3", "c4"); err != nil {
				t.Error(err)
			}
			for range 3 {
				if err := w.read(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reading.Wait()
	stop()
	sending.Wait()
	if t.Failed() {
		return
	}
	end := n.send(t, message("always", "end"))[0].Id
	wanted := append(slices.Concat(sent...), "first", "end")
	for _, w := range all {
		for w.last < end {
			must(t, w.read())
		}
		w.conn.Close()
		for _, text := range wanted {
			if w.got[text] == 0 {
				t.Errorf("%q of %d is missing", text, len(wanted))
				break
			}
		}
	}
	t.Logf("%d messages, %d sockets", len(wanted), workers*(lives+1))
}
