package tests

import (
	"fmt"
	"testing"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// G3: a node that nobody reads a channel on does not read what others send to it, while
// messages flow. Who comes then is given it all the same, from wherever it was, and what
// follows.
func TestLateReaderOfAChannelThatNobodyReadGetsEverything(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	conn := sql(t, url)
	var texts []string
	for round := range 5 {
		_, err := conn.Exec(t.Context(), "SELECT postbus.send('orders', to_json('m' || i)) FROM generate_series($1::int, $1 + 99) i", 100*round)
		must(t, err)
		for i := range 100 {
			texts = append(texts, fmt.Sprint("m", 100*round+i))
		}
		until(t, "the node is there", func() bool { return n.dispatcher.State().Pos == bus.ID(100*(round+1)) })
	}
	if kept := n.dispatcher.State().WindowMessages; kept > 300 {
		t.Errorf("the window has %d messages of a channel that nobody reads", kept)
	}
	for _, after := range []int{250, 0, 499} {
		n.subscribe(t, int64(after), "orders").expect(texts[after:]...)
	}
	now := n.subscribe(t, -1, "orders")
	n.send(t, message("orders", "then"))
	now.expect("then")
	n.subscribe(t, 498, "orders").expect("m498", "m499", "then")
}
