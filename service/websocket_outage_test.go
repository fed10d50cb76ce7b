package service_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

// A socket stays open through an outage, with its channels, which still may change; what
// needs the database is refused meanwhile, and nothing is missed behind it.
func TestSocketStaysOpenThroughAnOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.Exclusive(t, nil)
	n := start(t, pgtest.DatabaseOn(t, server), nodeOptions{WindowBytes: 1})
	first := n.send(t, jsonMessage("c", "1"))
	n.send(t, jsonMessage("d", "2"))
	ws, fresh := n.socket(t, "?channels=c&heartbeat=1s"), n.socket(t, "")
	ws.beat()
	var large, given []int64
	text := `"` + strings.Repeat("x", stalledText) + `"`
	for range stalledTotal {
		large = append(large, n.send(t, jsonMessage("large", text)))
	}
	behind := n.stingySocket(t, "?channels=large&after=0&heartbeat=1s")
	given = append(given, behind.id())
	must(t, server.StopImmediate(short(t)))
	until(t, "the node has noticed", func() bool { return !n.dispatcher.State().Connected })

	// One that still reads the table is told that it is open, and has not all.
	for f := behind.next(); !f.beats(); f = behind.next() {
		for _, got := range f.Notifications {
			given = append(given, got.ID)
		}
	}
	ws.beat()
	ws.say(`{"subscribe":{"channels":["e"]},"request":"1"}`)
	ws.acked("1", func(serverFrame) {})
	ws.say(`{"unsubscribe":{"channels":["c"]},"request":"2"}`)
	ws.acked("2", func(serverFrame) {})
	ws.beat()
	fresh.say(`{"subscribe":{"channels":["c"],"after":0},"request":"1"}`)
	fresh.refused("1", service.ReasonDatabaseUnavailable)
	late := n.socket(t, "?channels=c&after=0")
	late.refused("-", service.ReasonDatabaseUnavailable)
	late.ended(websocket.CloseTryAgainLater)

	must(t, server.Restart(short(t)))
	until(t, "the node is back", func() bool { return n.dispatcher.State().Connected })
	var e int64
	until(t, "a send is answered", func() bool {
		keyed := jsonMessage("e", "3")
		keyed.Key = "k" // the first may still meet a connection that died
		resp, err := n.client.Send(short(t), &postbusv1.SendRequest{Messages: []*postbusv1.Message{keyed}})
		if err == nil {
			e = resp.Results[0].Id
		}
		return err == nil
	})
	if given = append(given, behind.ids(stalledTotal-len(given))...); !slices.Equal(given, large) {
		t.Errorf("over the outage %v, want %v", given, large)
	}
	if got := ws.id(); got != e {
		t.Errorf("behind the outage %d, want %d", got, e)
	}
	fresh.say(`{"subscribe":{"channels":["c"],"after":0},"request":"2"}`)
	fresh.acked("2")
	if got := fresh.id(); got != first {
		t.Errorf("from the oldest on %d, want %d", got, first)
	}
}
