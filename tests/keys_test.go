package tests

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// G7: the second message with a key stores nothing and answers the first one's id, within
// one Send, in a later one, on the road through SQL, and on its own channel only.
func TestSecondMessageWithAKeyStoresNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "a", "b")
	conn := sql(t, url)

	results := n.send(t, keyed("a", "first", "k"), message("a", "between"), keyed("a", "void", "k"), keyed("b", "other channel", "k"))
	if results[0].GetDuplicate() || !results[2].GetDuplicate() || results[2].GetId() != results[0].GetId() || results[3].GetDuplicate() {
		t.Fatalf("twice in one Send: %v", results)
	}
	again := n.send(t, keyed("a", "void", "k"))[0]
	if !again.GetDuplicate() || again.GetId() != results[0].GetId() {
		t.Fatalf("in a later Send: %v, want a duplicate of %d", again, results[0].GetId())
	}
	do(t, conn, `SELECT postbus.send('a', '"void"', key => 'k')`,
		"BEGIN", `SELECT postbus.send('a', '"by SQL"', key => 'l')`, `SELECT postbus.send('a', '"void"', key => 'l')`, "COMMIT")
	id := ask[int64](t, conn, "SELECT postbus.id_of('a', 'l')")
	if again := n.send(t, keyed("a", "void", "l"))[0]; !again.GetDuplicate() || again.GetId() != id {
		t.Fatalf("after SQL: %v, want a duplicate of %d", again, id)
	}
	n.send(t, message("a", "end"))
	equal(t, "delivered", reader.untilEnd(), []string{"first", "between", "other channel", "by SQL"})
}

// G7: at once, from both roads and two nodes, one of all is stored.
func TestRacingSendersWithOneKeyStoreOneMessage(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	nodes := []*node{startNode(t, url, nodeOptions{}), startNode(t, url, nodeOptions{})}
	reader := nodes[0].subscribe(t, -1, "orders")
	conns := []*pgx.Conn{sql(t, url), sql(t, url)}
	const rounds = 40
	for round := range rounds {
		key := fmt.Sprint("key", round)
		var race sync.WaitGroup
		results := make([]*postbusv1.SendResult, len(nodes))
		for i, n := range nodes {
			race.Go(func() {
				response, err := n.rpc.Send(short(t), sendRequest(keyed("orders", key, key)))
				if err != nil {
					t.Error(err)
					return
				}
				results[i] = response.GetResults()[0]
			})
		}
		for _, conn := range conns {
			race.Go(func() {
				for tries := range 10_000 {
					_, err := conn.Exec(short(t), fmt.Sprintf(`SELECT postbus.send('orders', '"%s"', key => '%s')`, key, key))
					if err == nil {
						return
					}
					if code := sqlState(err); code != "55P03" || tries == 9_999 {
						t.Errorf("a busy key in SQL: %v, want 55P03", err)
						return
					}
				}
			})
		}
		race.Wait()
		if t.Failed() {
			return
		}
		id := ask[int64](t, conns[0], "SELECT postbus.id_of('orders', $1)", key)
		firsts := 0
		for _, r := range results {
			if r.GetId() != id {
				t.Fatalf("answers %v, want id %d in all", results, id)
			}
			if !r.GetDuplicate() {
				firsts++
			}
		}
		if firsts > 1 {
			t.Fatalf("answers %v: both say that they are the first", results)
		}
	}
	nodes[0].send(t, message("orders", "end"))
	equal(t, "delivered", reader.untilEnd(), numbered("key", rounds))
}

func sqlState(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// G7: a key whose transaction rolled back, or whose savepoint did, is free again.
func TestRolledBackKeyIsFreeAgain(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	conn := sql(t, url)
	do(t, conn, "BEGIN", `SELECT postbus.send('orders', 'null', key => 'k')`, "ROLLBACK")
	if r := n.send(t, keyed("orders", "first", "k"))[0]; r.GetDuplicate() {
		t.Fatalf("after ROLLBACK: %v", r)
	}
	do(t, conn, "BEGIN", "SAVEPOINT s", `SELECT postbus.send('orders', 'null', key => 'l')`, "ROLLBACK TO s")
	if r := n.send(t, keyed("orders", "first", "l"))[0]; r.GetDuplicate() {
		t.Fatalf("after ROLLBACK TO: %v", r)
	}
	do(t, conn, "COMMIT")
}

// G5, G7: keys claimed in opposite orders never deadlock, on no road, and hold no tail.
func TestKeysInOppositeOrdersNeverDeadlock(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	nodes := []*node{startNode(t, url, nodeOptions{}), startNode(t, url, nodeOptions{})}
	first, second := sql(t, url), sql(t, url)
	do(t, first, "BEGIN", `SELECT postbus.send('orders', 'null', key => 'a')`)
	do(t, second, "BEGIN", `SELECT postbus.send('orders', 'null', key => 'b')`)
	for conn, key := range map[*pgx.Conn]string{first: "b", second: "a"} {
		do(t, conn, "SAVEPOINT s")
		_, err := conn.Exec(short(t), fmt.Sprintf(`SELECT postbus.send('orders', 'null', key => '%s')`, key))
		if sqlState(err) != "55P03" {
			t.Fatalf("a key that another transaction has: %v, want 55P03", err)
		}
		do(t, conn, "ROLLBACK TO s")
	}
	do(t, first, "COMMIT")
	do(t, second, "COMMIT")
	for round := range 50 {
		a, b := keyed("orders", "", fmt.Sprint("a", round)), keyed("orders", "", fmt.Sprint("b", round))
		var both sync.WaitGroup
		for i, n := range nodes {
			both.Go(func() {
				messages := []*postbusv1.Message{a, b}
				if i == 1 {
					messages = []*postbusv1.Message{b, a}
				}
				if _, err := n.rpc.Send(short(t), sendRequest(messages...)); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	}
}

// G5, G7: a Send whose key is busy waits for the other transaction, and nobody waits for
// the Send: other messages go on, and the tail is not held.
func TestSendWithABusyKeyWaitsAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{KeyPatience: longest})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		key := "key of " + end
		do(t, conn, "BEGIN", fmt.Sprintf(`SELECT postbus.send('orders', '"theirs"', key => '%s')`, key))
		answer := make(chan *postbusv1.SendResult, 1)
		go func() {
			response, err := n.rpc.Send(short(t), sendRequest(keyed("orders", "ours", key)))
			if err != nil {
				t.Error(err)
				close(answer)
				return
			}
			answer <- response.GetResults()[0]
		}()
		for i, text := range numbered("meanwhile", 30) {
			if i >= 2 {
				until(t, "the Send waits", func() bool { return n.writer.State().Queued == 1 })
			}
			n.send(t, message("orders", text))
			reader.expect(text)
			if s := n.dispatcher.State(); s.Held > 500*time.Millisecond {
				t.Fatalf("the tail is held for %v by %v", s.Held, s.Holders)
			}
		}
		select {
		case r := <-answer:
			t.Fatalf("answered %v while the key was in use", r)
		default:
		}
		do(t, conn, end)
		r := <-answer
		text := "ours"
		if end == "COMMIT" {
			text = "theirs"
		}
		id := reader.expect(text)[0]
		if r.GetId() != id || r.GetDuplicate() != (end == "COMMIT") {
			t.Fatalf("after %s: %v, want id %d", end, r, id)
		}
	}
}

// G7: patience ends with KEY_BUSY, and nothing was stored.
func TestKeyThatStaysBusyIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{KeyPatience: 200 * time.Millisecond})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	do(t, conn, "BEGIN", `SELECT postbus.send('orders', '"theirs"', key => 'k')`)
	_, err := n.rpc.Send(short(t), sendRequest(message("orders", "void"), keyed("orders", "void", "k")))
	if status.Code(err) != codes.Unavailable || reason(err) != "KEY_BUSY" {
		t.Fatalf("a key that stays busy: %v, want UNAVAILABLE, KEY_BUSY", err)
	}
	do(t, conn, "COMMIT")
	n.send(t, message("orders", "end"))
	equal(t, "delivered", reader.untilEnd(), []string{"theirs"})
}

// G7: a key lives as long as --key-retention says, and not longer.
func TestKeyIsFreeAfterItsRetention(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{KeyRetention: 2 * time.Second})
	first := n.send(t, keyed("orders", "", "k"))[0]
	if r := n.send(t, keyed("orders", "", "k"))[0]; !r.GetDuplicate() {
		t.Fatalf("at once: %v, want a duplicate", r)
	}
	until(t, "the key is free", func() bool {
		r := n.send(t, keyed("orders", "", "k"))[0]
		if r.GetDuplicate() == (r.GetId() != first.GetId()) {
			t.Fatalf("%v after %v", r, first)
		}
		return !r.GetDuplicate()
	})
}

// G5: under REPEATABLE READ a key newer than the snapshot raises 40001, never a duplicate.
func TestKeyNewerThanTheSnapshotRaises(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	conn := sql(t, url)
	do(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
	n.send(t, keyed("orders", "", "k"))
	_, err := conn.Exec(short(t), `SELECT postbus.send('orders', 'null', key => 'k')`)
	if sqlState(err) != "40001" {
		t.Fatalf("a key newer than the snapshot: %v, want 40001", err)
	}
	do(t, conn, "ROLLBACK")
}
