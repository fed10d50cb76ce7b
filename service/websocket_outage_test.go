package service_test

import (
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
	must(t, server.StopImmediate(short(t)))
	until(t, "the node has noticed", func() bool { return !n.dispatcher.State().Connected })

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
	if ids := ws.ids(1); ids[0] != e {
		t.Errorf("behind the outage %v, want %d", ids, e)
	}
	fresh.say(`{"subscribe":{"channels":["c"],"after":0},"request":"2"}`)
	fresh.acked("2")
	if ids := fresh.ids(1); ids[0] != first {
		t.Errorf("from the oldest on %v, want %d", ids, first)
	}
}
