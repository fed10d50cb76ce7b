package tests

import (
	"testing"
	"time"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// G3, G4: an id from one node, polled on another that has not got there, is waited for;
// it is no gap, and what follows comes once.
func TestCursorFromAnotherNodeIsWaitedFor(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := sql(t, url)
	ahead := startNode(t, url, nodeOptions{})
	ahead.asleep(t)
	first := sleepers(t, conn)
	behind := startNode(t, url, nodeOptions{})
	until(t, "both nodes sleep", func() bool { return len(sleepers(t, conn)) == 2 })
	both := sleepers(t, conn)
	pid := both[0]
	if pid == first[0] {
		pid = both[1]
	}
	behind.asleep(t)
	thaw := freeze(t, conn, pid)

	id := ahead.send(t, message("orders", "one"), message("orders", "two"))[0].GetId()
	if pos := behind.dispatcher.State().Pos; int64(pos) >= id {
		t.Fatalf("the frozen node is at %d, not behind %d", pos, id)
	}
	answer := behind.poll(t, id+1, "orders")
	if answer.GetGap() != nil || len(answer.GetNotifications()) != 0 || answer.GetLast() != id+1 {
		t.Fatalf("a poll ahead of its node: %v; want nothing, and last %d", answer, id+1)
	}
	got := make(chan *postbusv1.PollResponse, 1)
	go func() { got <- behind.pollFor(t, 50*time.Second, id, "orders") }()
	until(t, "the poll waits", func() bool { return behind.dispatcher.State().Subscriptions == 1 })
	thaw()
	answer = <-got
	equal(t, "behind the cursor", textsOf(answer.GetNotifications()), []string{"two"})
	if answer.GetGap() != nil {
		t.Fatalf("gap %v for an id that the database has given", answer.GetGap())
	}
}

// G4: AHEAD is said of ids that the primary's sequence never gave, and of no others.
func TestAheadIsSaidOnlyOfWhatTheDatabaseNeverGave(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	id := n.send(t, message("orders", "first"))[0].GetId()
	conn := sql(t, url)

	// Given and open: not settled on any node.
	do(t, conn, "BEGIN", `SELECT postbus.send('orders', '"open"')`, "SET CONSTRAINTS ALL IMMEDIATE")
	if gap := n.poll(t, id+1, "orders").GetGap(); gap != nil {
		t.Fatalf("gap %v for an id whose transaction is open", gap)
	}
	// Given and void.
	do(t, conn, "ROLLBACK")
	if gap := n.poll(t, id+1, "orders").GetGap(); gap != nil {
		t.Fatalf("gap %v for an id that was rolled back", gap)
	}
	until(t, "the void id is settled", func() bool { n.send(t, message("other", "")); return int64(n.dispatcher.State().Pos) > id+1 })

	given := ask[int64](t, conn, "SELECT pg_sequence_last_value('postbus.bus_id_seq')")
	if gap := n.poll(t, given, "orders").GetGap(); gap != nil {
		t.Fatalf("gap %v for the last id given", gap)
	}
	answer := n.poll(t, given+1, "orders")
	gap := answer.GetGap()
	if gap.GetReason() != postbusv1.Gap_REASON_AHEAD || gap.GetAfter() != gap.GetUntil() || gap.GetUntil() != answer.GetLast() || answer.GetLast() > given {
		t.Fatalf("a cursor above every id: %v; want AHEAD at the present position, at most %d", answer, given)
	}
	stream := n.subscribe(t, given+1, "orders")
	if len(stream.gaps) != 1 || stream.gaps[0].GetReason() != postbusv1.Gap_REASON_AHEAD {
		t.Fatalf("gaps of a stream above every id: %v", stream.gaps)
	}
	n.send(t, message("orders", "then"))
	stream.expect("then")
}
