package service_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

const (
	stalledTotal = 32
	stalledText  = 512 << 10 // all together far more than a connection's buffers hold
)

// A socket that stalls delays nobody, and is not cut off: neither for what it does not read
// nor for the pings and frames that it sends. It catches up, and its frames are answered.
func TestStalledSocketCostsOnlyItself(t *testing.T) {
	t.Parallel()
	const windowBytes = 2 << 20
	n := start(t, pgtest.Database(t), nodeOptions{WindowBytes: windowBytes, PageReaders: 1})
	stalled, leaves := n.stingySocket(t, "?channels=c&heartbeat=50s"), n.stingySocket(t, "?channels=c&heartbeat=50s")
	stalled.beat()
	leaves.beat()
	brisk := n.socket(t, "?channels=c&heartbeat=50s")
	brisk.beat()

	var ids []int64
	got := make(chan []int64, 1)
	go func() { got <- brisk.ids(stalledTotal) }()
	text := `"` + strings.Repeat("x", stalledText) + `"`
	for range stalledTotal {
		ids = append(ids, n.send(t, jsonMessage("c", text)))
	}
	want := fmt.Sprint(ids)
	if got := fmt.Sprint(<-got); got != want { // everything, while two stall
		t.Fatalf("beside a stalled socket\n got %s\nwant %s", got, want)
	}
	if stats := n.service.Stats(); stats.OpenStreams != 3 || n.dispatcher.State().Delivered >= 3*stalledTotal-2 {
		t.Fatalf("nobody stalls, or somebody was cut off: %+v", stats)
	}
	if s := n.dispatcher.State(); s.WindowBytes > 2*windowBytes {
		t.Errorf("the window has %d bytes, its bound is %d", s.WindowBytes, windowBytes)
	}
	for i := range 100 {
		must(t, stalled.conn.WriteControl(websocket.PingMessage, fmt.Append(nil, i), time.Now().Add(longest)))
	}
	stalled.say(`{"subscribe":{"channels":["d"]},"request":"1"}`)
	stalled.say(`{"unsubscribe":{"channels":["d"]},"request":"2"}`)

	leaves.conn.Close()
	until(t, "who left is let go", func() bool { return n.service.Stats().OpenStreams == 2 })
	pages := n.dispatcher.State().Pages
	var caughtUp []int64
	see := func(f serverFrame) {
		for _, got := range f.Notifications {
			caughtUp = append(caughtUp, got.ID)
		}
	}
	var newest string
	stalled.conn.SetPongHandler(func(payload string) error { newest = payload; return nil })
	stalled.acked("1", see)
	stalled.acked("2", see)
	for len(caughtUp) < stalledTotal {
		see(stalled.next())
	}
	if got := fmt.Sprint(caughtUp); got != want {
		t.Fatalf("who stalled: %s, want %s", got, want)
	}
	if n.dispatcher.State().Pages == pages {
		t.Error("who stalled read nothing from the table: it was not behind the window")
	}
	if id, got := n.send(t, jsonMessage("c", `"live again"`)), stalled.ids(1); len(got) != 1 || got[0] != id {
		t.Errorf("live again: %v, want %d", got, id)
	}
	if newest != "99" {
		t.Errorf("the last pong was %q, want that of the last ping", newest)
	}
}

// A node does not wait for a client that does not read for longer than it has to drain;
// others have their last by then.
func TestStalledSocketIsClosedWhenTheTimeToDrainIsOver(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	stalled, reads := n.stingySocket(t, "?channels=c&heartbeat=50s"), n.socket(t, "?channels=d&heartbeat=50s")
	stalled.beat()
	reads.beat()
	text := `"` + strings.Repeat("x", stalledText) + `"`
	for range stalledTotal {
		n.send(t, jsonMessage("c", text))
	}
	n.service.Drain()
	n.dispatcher.Drain()
	until(t, "the other is asked to go", func() bool {
		f, err := reads.read()
		return err != nil || !f.beats()
	})
	until(t, "the other has gone", func() bool { return n.service.Stats().OpenStreams == 1 })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.service.WaitSockets(over); !errors.Is(err, context.Canceled) {
		t.Errorf("waited: %v", err)
	}
	if err := n.service.WaitSockets(short(t)); err != nil {
		t.Errorf("a socket that was closed is still there: %v", err)
	}
}

// A message that does not come whole ends its socket, and holds no bytes of others until
// then.
func TestSocketThatNeverFinishesAMessageIsEnded(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{ReceiveTimeout: time.Second, MaxRequestBytes: 64 << 10})
	ws := n.rawSocket(t, "?channels=a")
	ws.expect("last")
	ws.write(frame(opText, make([]byte, 20<<10)))
	until(t, "its bytes are counted", func() bool { s := n.service.Stats(); return s.Requests == 1 && s.RequestBytes > 20<<10 })
	ws.expect("MALFORMED_JSON")
	ws.expect("last")
	if got := ws.heard(); got != "close 1008" {
		t.Error(got)
	}
	if s := n.service.Stats(); s.Requests != 0 || s.RequestBytes != 0 {
		t.Errorf("%+v", s)
	}
}

// A message for which there is no room is refused, and the socket goes on.
func TestSocketWithoutRoomForAMessageStaysOpen(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{MaxRequestBytes: 64 << 10})
	ws := n.rawSocket(t, "?channels=a")
	ws.expect("last")
	ws.write(frame(fin|opText, padded(200<<10)), frame(fin|opText, padded(1<<10)))
	ws.expect(service.ReasonTooManyRequests)
	ws.expect("ack")
	ws.expect("last")
	if s := n.service.Stats(); s.Requests != 0 || s.RequestBytes != 0 {
		t.Errorf("%+v", s)
	}
}
