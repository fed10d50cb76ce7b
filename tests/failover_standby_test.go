package tests

import (
	"fmt"
	neturl "net/url"
	"strings"
	"testing"
)

// G4: postbus.poll on a standby. Settled messages only, in order; no cursor is AHEAD there;
// one that is newer than the standby is no error. And what a node does with a standby.
func TestStandbyAnswersPolls(t *testing.T) {
	t.Parallel()
	p := startPair(t, map[string]string{"max_standby_streaming_delay": "0"})
	n := startNode(t, p.url, nodeOptions{})
	first := store(t, "orders", numbered("m", 3), n)
	p.follow(t, first[2].id)
	primary, standby := sql(t, p.primary.URL()), sql(t, p.standby.URL())
	poll := func(after int64, most int) answer { t.Helper(); return pollSQL(t, standby, after, "orders", most) }

	// In order, page by page, as on the primary.
	var texts []string
	var last int64
	for range 3 {
		a := poll(last, 1)
		texts, last = append(texts, a.texts()...), a.Last
	}
	equal(t, "pages of the standby", texts, numbered("m", 3))

	// What is visible there and not settled is not given.
	do(t, primary, "BEGIN", `SELECT postbus.send('orders', '"late"')`, "SET CONSTRAINTS ALL IMMEDIATE")
	early := store(t, "orders", []string{"early"}, n)[0]
	until(t, "the row is on the standby", func() bool {
		return ask[int64](t, standby, "SELECT count(*) FROM postbus.bus WHERE id = $1", early.id) == 1
	})
	if a := poll(last, 100); len(a.Notifications) != 0 || a.Gap != nil || a.Last >= early.id-1 {
		t.Errorf("while a lower id is open: %+v", a)
	}
	do(t, primary, "COMMIT")
	var a answer
	until(t, "the standby gives both", func() bool { a = poll(last, 100); return len(a.Notifications) == 2 })
	equal(t, "after the commit", a.texts(), []string{"late", "early"})

	// A cursor from the primary, a moment ahead; and one that nobody ever gave.
	do(t, standby, "SELECT pg_wal_replay_pause()")
	until(t, "replay is paused", func() bool { return ask[string](t, standby, "SELECT pg_get_wal_replay_pause_state()") == "paused" })
	newest := store(t, "orders", []string{"newer", "newest"}, n)
	for _, after := range []int64{newest[0].id, 1 << 40} {
		if a := poll(after, 100); a.Gap != nil || len(a.Notifications) != 0 || a.Last != after {
			t.Errorf("after %d, above the standby: %+v; want nothing, no gap and the same cursor", after, a)
		}
	}
	do(t, standby, "SELECT pg_wal_replay_resume()")
	until(t, "the standby has caught up", func() bool { a = poll(newest[0].id, 100); return len(a.Notifications) > 0 })
	equal(t, "behind the cursor", a.texts(), []string{"newest"})

	// Retention and vacuum on the primary end a snapshot of the standby: an error that says
	// so, never a short answer.
	snapshot := sql(t, p.standby.URL())
	do(t, snapshot, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT postbus.poll('{orders}', 0)")
	do(t, primary, fmt.Sprintf("UPDATE postbus.state SET trimmed_to = %d", first[1].id),
		fmt.Sprintf("DELETE FROM postbus.bus WHERE id <= %d", first[1].id), "VACUUM postbus.bus")
	until(t, "the standby has replayed it", func() bool { a = poll(first[0].id, 100); return a.Gap != nil })
	if a.Gap.Reason != "REASON_TRIMMED" || a.Gap.Until != first[1].id || fmt.Sprint(a.texts()) != "[m2 late early newer newest]" {
		t.Errorf("after retention: %+v", a)
	}
	var state string
	until(t, "the snapshot is ended", func() bool {
		_, err := snapshot.Exec(short(t), "SELECT postbus.poll('{orders}', 0)")
		state = sqlState(err)
		return err != nil
	})
	if state != "40001" {
		t.Errorf("a snapshot in the way of replay: SQLSTATE %s, want 40001", state)
	}
}

// A node on a standby says so and ends; one whose URL names both servers takes the primary,
// for every connection.
func TestNodeTakesThePrimary(t *testing.T) {
	t.Parallel()
	p := startPair(t, nil)
	got := run(t, command(t, "serve", "--database-url", p.standby.URL(), "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", ""))
	if got.code != 1 || !strings.Contains(got.stderr, "the server is in recovery: a standby, or not yet promoted") {
		t.Errorf("serve on a standby: exit code %d, %s", got.code, got.stderr)
	}

	both, err := neturl.Parse(p.standby.URL())
	must(t, err)
	other, err := neturl.Parse(p.primary.URL())
	must(t, err)
	both.Host += "," + other.Host
	n := startNode(t, both.String(), nodeOptions{WindowBytes: 1})
	p.follow(t, 0)
	p.deafen(t)
	sent := store(t, "orders", numbered("m", 3), n)
	equal(t, "from the table", textsOf(n.poll(t, 0, "orders").GetNotifications()), numbered("m", 3))

	// The standby is promoted, and the primary is stopped: the same URL leads there.
	must(t, p.primary.StopImmediate(short(t)))
	p.promote(t)
	was := &past{fresh: store(t, "orders", numbered("fresh", 3), n)}
	stream := n.subscribe(t, sent[2].id, "orders")
	stream.expect(numbered("fresh", 3)...)
	if len(stream.gaps) != 1 || stream.gaps[0].GetUntil() != was.bound() {
		t.Errorf("gaps %v", stream.gaps)
	}
}
