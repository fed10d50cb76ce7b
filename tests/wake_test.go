package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postbus/postbus/client"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// sleepers returns the server processes that hold the bell's first slot: one for each
// node that sleeps.
func sleepers(t testing.TB, conn *pgx.Conn) []int {
	t.Helper()
	rows, err := conn.Query(short(t), `SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
		WHERE l.locktype = 'advisory' AND l.classid = 1346532723 AND l.objid = 0 AND l.mode = 'ShareLock' AND l.granted ORDER BY 1`)
	must(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	must(t, err)
	return pids
}

// freeze stops a server process in its tracks until cleanup or thaw, at a moment when it
// holds nothing that others wait for but the bell.
func freeze(t testing.TB, conn *pgx.Conn, pid int) (thaw func()) {
	t.Helper()
	process, err := os.FindProcess(pid)
	must(t, err)
	thaw = func() {
		if err := process.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
	t.Cleanup(thaw)
	until(t, "the process is frozen while it idles", func() bool {
		must(t, process.Signal(syscall.SIGSTOP))
		idle := ask[bool](t, conn, `SELECT a.state = 'idle' AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'virtualxid')
			FROM pg_stat_activity a WHERE a.pid = $1`, pid)
		if !idle {
			thaw()
		}
		return idle
	})
	return thaw
}

// G10: with the fallback an hour away, a sleeping node is woken by every kind of sender.
func TestSleepingNodeIsWokenByEverySender(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n, other := startNode(t, url, nodeOptions{}), startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	var conns []*pgx.Conn
	for range 4 {
		conns = append(conns, sql(t, url))
	}
	for round := range 60 {
		n.asleep(t)
		text := fmt.Sprint("round", round)
		send := fmt.Sprintf(`SELECT postbus.send('orders', '"%s"')`, text)
		conn := conns[round%len(conns)]
		switch round % 5 {
		case 0:
			do(t, conn, send)
		case 1:
			do(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1", send, "COMMIT")
		case 2:
			do(t, conn, "BEGIN ISOLATION LEVEL SERIALIZABLE", send, "SET CONSTRAINTS ALL IMMEDIATE", "COMMIT")
		case 3:
			other.send(t, message("orders", text))
		case 4:
			n.send(t, message("orders", text))
		}
		reader.expect(text)
	}
	if missed := n.dispatcher.State().MissedBells; missed != 0 {
		t.Fatalf("%d messages were found by the fallback alone", missed)
	}
}

// G10: no moment between waking and sleeping is deaf.
func TestNoMomentOfFallingAsleepIsDeaf(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	for round := range 150 {
		// The node falls asleep about 20 ms after it moved: send at every point around.
		<-time.After(10*time.Millisecond + time.Duration(round)*200*time.Microsecond)
		text := fmt.Sprint("round", round)
		do(t, conn, fmt.Sprintf(`SELECT postbus.send('orders', '"%s"')`, text))
		reader.expect(text)
	}
}

// G10: a transaction that found the node awake, and so did not ring, is not slept over
// however late it commits.
func TestTransactionThatFoundTheNodeAwakeIsNotSleptOver(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	for round := range 10 {
		text := fmt.Sprint("round", round)
		do(t, conn, "BEGIN", fmt.Sprintf(`SELECT postbus.send('orders', '"%s"')`, text))
		n.send(t, message("other", "stay awake"))
		do(t, conn, "SET CONSTRAINTS ALL IMMEDIATE") // looks at the bell, now
		<-time.After(200 * time.Millisecond)         // long enough to fall asleep
		do(t, conn, "COMMIT")
		reader.expect(text)
	}
}

// G10: a LISTEN connection that is killed is replaced, whether it slept or not.
func TestDeliveryGoesOnWhenTheListenConnectionIsKilled(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	for round := range 5 {
		n.asleep(t)
		pids := sleepers(t, conn)
		if len(pids) != 1 {
			t.Fatalf("server processes that sleep: %v, want one", pids)
		}
		do(t, conn, fmt.Sprintf("SELECT pg_terminate_backend(%d)", pids[0]))
		text := fmt.Sprint("round", round)
		do(t, conn, fmt.Sprintf(`SELECT postbus.send('orders', '"%s"')`, text))
		reader.expect(text)
	}
}

// G10: a LISTEN connection that hears nothing any more is noticed within 5 s and healed.
func TestDeafListenConnectionIsNoticedWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	n.asleep(t)
	began := time.Now()
	freeze(t, conn, sleepers(t, conn)[0])
	do(t, conn, `SELECT postbus.send('orders', '"behind the deaf one"')`)
	until(t, "the deaf connection is given up", func() bool { s := n.dispatcher.State(); return s.Reconnects > 0 })
	if took := time.Since(began); took > 6*time.Second { // 1 s for a loaded machine
		t.Errorf("noticed after %v, must be within 5s", took)
	}
	reader.expect("behind the deaf one")
	until(t, "the connection is healed", func() bool { return n.dispatcher.State().Connected })
}

// G1, G7: killed connections of the pool lose nothing that was answered and, with keys,
// store nothing twice; without keys the answers say what is certain.
func TestKilledPoolConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	kills := make(chan struct{})
	go func() {
		defer close(kills)
		for ctx.Err() == nil {
			if _, err := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'postbus'`); err != nil {
				t.Error(err)
			}
			<-time.After(30 * time.Millisecond)
		}
	}()
	answered, refused := map[string]bool{}, map[string]bool{}
	for i := 0; ctx.Err() == nil; i++ {
		text := fmt.Sprint("plain", i)
		_, err := n.rpc.Send(short(t), sendRequest(message("orders", text)), grpc.WaitForReady(true))
		switch {
		case err == nil:
			answered[text] = true
		case status.Code(err) == codes.Unavailable && reason(err) != "":
			refused[text] = true
		case status.Code(err) != codes.Unknown || reason(err) != "OUTCOME_UNKNOWN":
			t.Fatalf("a send while connections are killed: %v", err)
		}
		key := client.NewKey()
		receipts, err := n.client.Send(short(t), client.Message{Channel: "orders", Payload: fmt.Appendf(nil, `"keyed%d"`, i), Key: key})
		must(t, err)
		if len(receipts) != 1 || receipts[0].ID <= 0 {
			t.Fatalf("receipts %v", receipts)
		}
		answered[fmt.Sprint("keyed", i)] = true
	}
	<-kills
	_, err := n.client.Send(short(t), client.Message{Channel: "orders", Payload: []byte(`"end"`), Key: client.NewKey()})
	must(t, err)
	delivered := reader.untilEnd()
	checkDelivered(t, delivered, answered, refused)
	if !slices.Contains(delivered, "keyed0") {
		t.Fatal("nothing was sent")
	}
	t.Logf("%d delivered, %d refused", len(delivered), len(refused))
}
