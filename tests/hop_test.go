package tests

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// G3: a reader that is dropped on one transport goes on by the next, on the other node, with
// what it had got to: nothing is missed and nothing comes twice, while messages come.
func TestReaderGoesFromTransportToTransportAndNodeToNode(t *testing.T) {
	t.Parallel()
	const total, each = 500, 25
	url := pgtest.Database(t)
	// One of the nodes reads everything that is not the newest from the table.
	nodes := []*node{startNode(t, url, nodeOptions{}), startNode(t, url, nodeOptions{WindowBytes: 4 << 10})}
	all := numbered("m", total)
	var sending sync.WaitGroup
	sending.Go(func() {
		for i, text := range all {
			nodes[i%2].send(t, message("hop", text))
			if i%3 == 0 {
				nodes[i%2].send(t, message("other", text))
			}
		}
	})

	var texts []string
	var last int64
	deadline := time.Now().Add(patience)
	take := func(text string) {
		t.Helper()
		if time.Now().After(deadline) { // heartbeats alone
			t.Fatalf("%d of %d messages within %v", len(texts), total, patience)
		}
		var a answer
		must(t, json.Unmarshal([]byte(text), &a))
		a.mustFollow(t, "a hop", last)
		texts, last = append(texts, a.texts()...), a.Last
	}
	// Each reads until so many are there.
	hops := []func(n *node, enough int){
		func(n *node, enough int) { // the cursor goes in the query at first, and as Last-Event-ID when it is dropped
			path := "/v1/subscribe?heartbeat=2s&" + query([]string{"hop"}, last)
			for resumed := ""; len(texts) < enough; resumed = fmt.Sprint(last) {
				events := n.events(t, path, resumed)
				take(events.next()) // the position, at least
				for range 10 {
					if len(texts) < enough {
						take(events.next())
					}
				}
				events.close()
			}
		},
		func(n *node, enough int) {
			s := n.subscribe(t, last, "hop")
			for len(texts) < enough {
				got := s.next()
				texts, last = append(texts, textOf(got)), got.GetId()
			}
			s.cancel()
		},
		func(n *node, enough int) {
			ws := dialSocket(t, n.base, "heartbeat=2s&"+query([]string{"hop"}, last))
			for len(texts) < enough {
				take(ws.next())
			}
			ws.conn.Close()
		},
		func(n *node, enough int) {
			for len(texts) < enough {
				_, text := n.fetch(t, "/v1/poll?max=7&timeout=2s&"+query([]string{"hop"}, last))
				take(text)
			}
		},
		func(n *node, enough int) {
			lines := n.lines(t, "/v1/subscribe?heartbeat=2s&"+query([]string{"hop"}, last))
			for len(texts) < enough {
				take(lines.next())
			}
			lines.close()
		},
	}
	for i := 0; len(texts) < total; i++ {
		hops[i%len(hops)](nodes[i%2], min(len(texts)+each, total))
	}
	sending.Wait()
	equal(t, "what was read", texts, all)
}
