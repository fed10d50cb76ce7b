package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// G5: an open transaction has no number yet, so that it delays nobody.
func TestOpenTransactionDelaysNobodyElsesMessage(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	slow, fast := sql(t, url), sql(t, url)

	do(t, slow, "BEGIN", `SELECT postbus.send('orders', '"slow"')`)
	do(t, fast, `SELECT postbus.send('orders', '"fast"')`)
	reader.expect("fast")
	n.send(t, message("orders", "rpc"))
	reader.expect("rpc")
	if held := n.dispatcher.State().Held; held != 0 {
		t.Fatalf("the tail is held for %v by a transaction that is only open", held)
	}
	do(t, slow, "COMMIT")
	reader.expect("slow")
}

// G2, the classic: a lower id commits after a higher one. Here SET CONSTRAINTS numbers
// early, which no other sender does.
func TestLowerIDThatCommitsLaterIsNotLost(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	early, later := sql(t, url), sql(t, url)

	do(t, early, "BEGIN", `SELECT postbus.send('orders', '"first"')`, "SET CONSTRAINTS ALL IMMEDIATE")
	do(t, later, `SELECT postbus.send('orders', '"second"')`)
	pid := ask[int32](t, early, "SELECT pg_backend_pid()")
	n.heldBy(t, func(h dispatch.Holder) bool { return h.PID == pid })
	if got := n.poll(t, 0, "orders").GetNotifications(); len(got) != 0 {
		t.Fatalf("delivered %q over a gap that may still fill", textsOf(got))
	}
	do(t, early, "COMMIT")
	reader.expect("first", "second")
	until(t, "the tail is held no more", func() bool { s := n.dispatcher.State(); return s.Held == 0 && len(s.Holders) == 0 })
}

// heldBy waits until the node names a holder of its tail.
func (n *node) heldBy(t testing.TB, is func(dispatch.Holder) bool) {
	t.Helper()
	until(t, "the holder is named", func() bool {
		s := n.dispatcher.State()
		return s.Held > 0 && slices.ContainsFunc(s.Holders, is)
	})
}

// What a held-up tail waits for may also roll back: its ids are void then.
func TestRollbackAfterEarlyNumberingFreesTheTail(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	early := sql(t, url)
	do(t, early, "BEGIN", `SELECT postbus.send('orders', '"void"')`, "SET CONSTRAINTS ALL IMMEDIATE")
	n.send(t, message("orders", "second"))
	do(t, early, "ROLLBACK")
	reader.expect("second")
}

// G5: what is rolled back is never delivered, a savepoint's part alone too.
func TestRolledBackMessagesAreNeverDelivered(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	do(t, conn, "BEGIN", `SELECT postbus.send('orders', '"void"')`, "ROLLBACK")
	do(t, conn, "BEGIN",
		`SELECT postbus.send('orders', '"a"')`,
		"SAVEPOINT s", `SELECT postbus.send('orders', '"void"')`, "ROLLBACK TO s",
		`SELECT postbus.send('orders', '"b"')`,
		"SAVEPOINT r", `SELECT postbus.send('orders', '"c"')`, "RELEASE r", "COMMIT")
	reader.expect("a", "b", "c")
	n.send(t, message("orders", "end"))
	reader.expect("end")
}

// G5: prepared transactions hold the tail until they end, and are named by their gid.
func TestPreparedTransactionHoldsTheTailUntilItEnds(t *testing.T) {
	t.Parallel()
	url := pgtest.DatabaseOn(t, pgtest.Exclusive(t, map[string]string{"max_prepared_transactions": "10"}))
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		do(t, conn, "BEGIN", "SET LOCAL postbus.bell = 'off'", `SELECT postbus.send('orders', '"prepared"')`, "PREPARE TRANSACTION 'two-phases'")
		n.send(t, message("orders", "behind"))
		n.heldBy(t, func(h dispatch.Holder) bool { return h.PID == 0 && h.GID == "two-phases" })
		do(t, conn, end+" PREPARED 'two-phases'")
		if end == "COMMIT" {
			reader.expect("prepared")
		}
		reader.expect("behind")
	}
}

// G5: transactions that send to channels in opposite order never deadlock.
func TestOppositeChannelOrderNeverDeadlocks(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "a", "b")
	first, second := sql(t, url), sql(t, url)
	for range 10 {
		do(t, first, "BEGIN", `SELECT postbus.send('a', '1')`)
		do(t, second, "BEGIN", `SELECT postbus.send('b', '1')`)
		do(t, first, `SELECT postbus.send('b', '2')`)
		do(t, second, `SELECT postbus.send('a', '2')`)
		var both sync.WaitGroup
		for _, conn := range []*pgx.Conn{first, second} {
			both.Go(func() {
				if _, err := conn.Exec(short(t), "COMMIT"); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		for range 4 {
			reader.next()
		}
	}
}

// G5: triggers that replication switches off do not include Postbus's.
func TestReplicaRoleSendersAreDelivered(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	do(t, sql(t, url), "SET session_replication_role = replica", `SELECT postbus.send('orders', '"applied"')`)
	reader.expect("applied")
}

// G1: a sender with synchronous_commit off is durable before it is delivered.
func TestAsynchronousSenderIsDurableBeforeItIsDelivered(t *testing.T) {
	t.Parallel()
	// Nothing writes the log in the background, and the server ends without a farewell.
	server := pgtest.Exclusive(t, map[string]string{
		"wal_writer_delay": "10s", "wal_writer_flush_after": "100MB", "bgwriter_delay": "10s", "autovacuum": "off",
	})
	url := pgtest.DatabaseOn(t, server)
	startNode(t, url, nodeOptions{}).stop()
	conn := sql(t, url)
	do(t, conn, "SET synchronous_commit = off")
	for _, text := range numbered("m", 20) {
		do(t, conn, fmt.Sprintf(`SELECT postbus.send('orders', '"%s"')`, text))
	}
	must(t, server.StopImmediate(short(t)))
	must(t, server.Restart(short(t)))
	n := startNode(t, url, nodeOptions{})
	equal(t, "after the crash", textsOf(n.poll(t, 0, "orders").GetNotifications()), numbered("m", 20))
}

// G2, G5, G6: random transactions of every kind and sends over two nodes; every reader
// gets what committed, once, in the order of ids, and each sender's in its own order.
func TestEveryReaderSeesTheSameOrder(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	nodes := []*node{startNode(t, url, nodeOptions{}), startNode(t, url, nodeOptions{})}
	readers := []*stream{nodes[0].subscribe(t, 0, "a", "b"), nodes[1].subscribe(t, 0, "b", "a")}

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	var senders sync.WaitGroup
	var mu sync.Mutex
	committed := map[string]int{}
	commit := func(texts []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, text := range texts {
			committed[text]++
		}
	}
	for i := range 6 {
		conn := sql(t, url)
		senders.Go(func() { transactions(ctx, t, conn, i, commit) })
	}
	for i, n := range nodes {
		senders.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				texts := numbered(fmt.Sprintf("rpc%d-%d-", i, k), 1+k%3)
				var messages []*postbusv1.Message
				for j, text := range texts {
					messages = append(messages, message([]string{"a", "b"}[j%2], text))
				}
				n.send(t, messages...)
				commit(texts)
			}
		})
	}
	senders.Wait()
	nodes[0].send(t, message("a", "end"))

	var orders [2][]string
	for i, reader := range readers {
		for {
			got := reader.next()
			if textOf(got) == "end" {
				break
			}
			orders[i] = append(orders[i], textOf(got))
		}
	}
	equal(t, "the second reader", orders[1], orders[0])
	for _, text := range orders[0] {
		committed[text]--
	}
	for text, missing := range committed {
		if missing != 0 {
			t.Fatalf("%q: %d too few or, below 0, too many", text, missing)
		}
	}
	ascending(t, orders[0])
	t.Logf("%d messages", len(orders[0]))
}

// transactions runs random transactions until ctx ends, and tells commit what they stored.
func transactions(ctx context.Context, t *testing.T, conn *pgx.Conn, sender int, commit func([]string)) {
	run := func(statement string) {
		if _, err := conn.Exec(context.WithoutCancel(ctx), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	for k := 0; ctx.Err() == nil; k++ {
		run([]string{"BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"}[rand.N(3)])
		var kept []string
		for j := range 1 + rand.N(4) {
			text := fmt.Sprintf("sql%d-%d-%d", sender, k, j)
			undo := rand.N(4) == 0
			if undo {
				run("SAVEPOINT s")
			}
			run(fmt.Sprintf(`SELECT postbus.send('%c', '"%s"')`, "ab"[rand.N(2)], text))
			switch {
			case undo:
				run("ROLLBACK TO s")
			default:
				kept = append(kept, text)
			}
		}
		switch rand.N(6) {
		case 0:
			run("ROLLBACK")
			continue
		case 1:
			run("SET CONSTRAINTS ALL IMMEDIATE")
			run("SELECT pg_sleep(0.02 * random())") // others commit higher ids meanwhile
		}
		run("COMMIT")
		commit(kept)
	}
}

// ascending checks that each sender's "name-k-j" come in the order in which it sent them.
func ascending(t *testing.T, texts []string) {
	t.Helper()
	type place struct{ k, j int }
	newest := map[string]place{}
	for _, text := range texts {
		var sender string
		var at place
		parts := strings.Split(text, "-")
		sender = parts[0]
		fmt.Sscan(parts[1], &at.k)
		fmt.Sscan(parts[2], &at.j)
		was, seen := newest[sender]
		if seen && (at.k < was.k || at.k == was.k && at.j <= was.j) {
			t.Fatalf("%s: %v after %v", sender, at, was)
		}
		newest[sender] = at
	}
}
