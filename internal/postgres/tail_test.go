package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestHoldersAreThoseWhoMayStillCommitIDs(t *testing.T) {
	d, url := open(t)
	tail, _ := openTail(t, d, 0)
	holders := func() string {
		t.Helper()
		found, err := tail.Holders(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, h := range found {
			if h.Transaction == "" || h.Recovered {
				t.Errorf("%+v", h)
			}
			names = append(names, fmt.Sprint(h.PID, h.GID))
		}
		return strings.Join(names, ",")
	}
	conn := connect(t, url)
	exec(t, conn, "BEGIN", "SELECT postbus.send('a', '1')", "SET CONSTRAINTS ALL IMMEDIATE")
	if got, want := holders(), fmt.Sprint(conn.PgConn().PID()); got != want {
		t.Errorf("holders %q, want %q", got, want)
	}
	exec(t, conn, "COMMIT", "BEGIN", "SET LOCAL postbus.bell = 'off'", "SELECT postbus.send('a', '2')", "PREPARE TRANSACTION 'mine'")
	if got := holders(); got != "0mine" {
		t.Errorf("holders %q, want the prepared one", got)
	}
	stuck, err := d.StuckHolders(t.Context())
	if err != nil || len(stuck) != 1 || stuck[0].GID != "mine" || stuck[0].Age <= 0 {
		t.Errorf("stuck: %+v, %v", stuck, err)
	}
	exec(t, conn, "COMMIT PREPARED 'mine'")
	if got := holders(); got != "" {
		t.Errorf("holders %q, want none", got)
	}
	if rows, full, err := readTail(t, tail, 0); err != nil || full || ids(rows) != "1 2" {
		t.Errorf("read %s, %v", ids(rows), err)
	}
}

func TestTailReadIsCut(t *testing.T) {
	d, url := open(t)
	tail, _ := openTail(t, d, 0)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1', headers => '{\"h\":\"v\"}', ttl => '1 hour') FROM generate_series(1, 1001)")
	rows, full, err := readTail(t, tail, 0)
	if err != nil || !full || len(rows) != 1000 {
		t.Errorf("%d rows, full %t, %v", len(rows), full, err)
	}
	if n := rows[0]; n.Headers["h"] != "v" || n.Expires.IsZero() || time.Until(n.Expires) > time.Hour {
		t.Errorf("%+v", n)
	}
	rows, full, err = readTail(t, tail, 1000)
	if err != nil || full || ids(rows) != "1001" {
		t.Errorf("the rest: %s, full %t, %v", ids(rows), full, err)
	}
	exec(t, conn, "SELECT postbus.send('a', to_json(repeat('x', 1000000))) FROM generate_series(1, 10)")
	rows, full, err = readTail(t, tail, 1001)
	if err != nil || !full || len(rows) != 5 {
		t.Errorf("%d large rows, full %t, %v; want 5", len(rows), full, err)
	}
}

func TestTailLeavesOutWhatIsHeld(t *testing.T) {
	d, url := open(t)
	tail, _ := openTail(t, d, 0)
	exec(t, connect(t, url), "SELECT postbus.send('a', '1') FROM generate_series(1, 20)")
	all, _, err := readTail(t, tail, 0)
	if err != nil || len(all) != 20 {
		t.Fatalf("read %s, %v", ids(all), err)
	}
	var far []*bus.Notification // above what a read is told of
	for _, n := range all {
		far = append(far, &bus.Notification{ID: n.ID + 8*heldBytes})
	}
	for _, c := range []struct {
		after bus.ID
		held  []*bus.Notification
		want  string
	}{
		{0, all, ""}, {17, all[17:18], "19 20"}, {7, all[8:16], "8 17 18 19 20"}, {16, []*bus.Notification{all[16], all[19]}, "18 19"},
		{18, far, "19 20"}, {0, all[:15], "16 17 18 19 20"},
	} {
		read, err := tail.Read(t.Context(), dispatch.TailRequest{After: c.after, Held: c.held})
		if err != nil || ids(read.Notifications) != c.want || read.Full {
			t.Errorf("after %d, without %s: %s, full %t, %v; want %q", c.after, ids(c.held), ids(read.Notifications), read.Full, err, c.want)
		}
	}
}

func TestBellRingsOnlyWhileArmed(t *testing.T) {
	d, url := open(t)
	tail, _ := openTail(t, d, 0)
	conn := connect(t, url)
	wait := func(timeout time.Duration) bool {
		t.Helper()
		rang, err := tail.Wait(t.Context(), timeout)
		if err != nil {
			t.Fatal(err)
		}
		return rang
	}
	if !tail.CanSleep() {
		t.Fatal("a direct connection cannot sleep")
	}
	exec(t, conn, "SELECT postbus.send('a', '1')")
	if wait(50 * time.Millisecond) {
		t.Error("it rang though nobody slept")
	}
	if err := tail.Arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "SELECT postbus.send('a', '2')")
	if !wait(10 * time.Second) {
		t.Error("no bell for SQL")
	}
	for i, key := range []string{"", "k"} {
		if appendAll(t, d, []bus.Message{keyed(3+i, key)}); !wait(10 * time.Second) {
			t.Errorf("no bell for a batch with key %q", key)
		}
	}
	// It arrives during another statement, or two: kept, and one.
	exec(t, conn, "SELECT postbus.send('a', '5')")
	within(t, "the rows", func() bool {
		rows, _, err := readTail(t, tail, 0)
		return err == nil && len(rows) == 5
	})
	if err := tail.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !wait(10 * time.Second) {
		t.Error("a bell was lost")
	}
	if wait(50 * time.Millisecond) {
		t.Error("it rang twice")
	}
	exec(t, conn, "BEGIN", "SET LOCAL postbus.bell = 'off'", "SELECT postbus.send('a', '6')", "COMMIT")
	if wait(50 * time.Millisecond) {
		t.Error("it rang though told not to")
	}
	if err := tail.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "SELECT postbus.send('a', '7')")
	if wait(50 * time.Millisecond) {
		t.Error("it rang after Disarm")
	}
	if n := value[int](t, conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"); n != 0 {
		t.Errorf("%d advisory locks are left", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tail.Wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Wait: %v", err)
	}
}

func TestDeafAndDeadTailsAreNoticed(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	deaf, _ := openTail(t, d, 0)
	if err := deaf.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, deaf.(*tail).conn, "UNLISTEN *")
	began := time.Now()
	if err := deaf.Check(t.Context()); !errors.Is(err, bus.ErrUnavailable) || time.Since(began) > 3*time.Second {
		t.Errorf("a deaf connection: %v after %s", err, time.Since(began))
	}
	dead, _ := openTail(t, d, 0)
	if err := dead.Arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := dead.Wait(t.Context(), time.Minute)
		result <- err
	}()
	exec(t, conn, fmt.Sprintf("SELECT pg_terminate_backend(%d)", dead.(*tail).conn.PgConn().PID()))
	if err := <-result; !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Wait on a killed backend: %v", err)
	}
	closed, _ := openTail(t, d, 0)
	if err := closed.Arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed.Close()
	within(t, "its locks to go", func() bool {
		return value[int](t, conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
	})
}

func TestFrozenServerCostsATimeout(t *testing.T) {
	server := pgtest.Exclusive(t, nil)
	url := pgtest.DatabaseOn(t, server)
	d := openAt(t, url)
	frozen, _ := openTail(t, d, 0)
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, _, err := readTail(t, frozen, 0)
	if !errors.Is(err, bus.ErrUnavailable) || time.Since(began) > 6*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	began = time.Now()
	frozen.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := d.Append(ctx, [][]bus.Message{{{Channel: "a", JSON: "1"}}}); !errors.Is(err, bus.ErrUnknownOutcome) && !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Append: %v", err)
	}
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
}

func TestFloorOnlyRises(t *testing.T) {
	d, url := open(t)
	tail, _ := openTail(t, d, 0)
	conn := connect(t, url)
	for _, pos := range []bus.ID{7, 5} {
		if err := tail.SaveFloor(t.Context(), pos); err != nil {
			t.Fatal(err)
		}
	}
	if got := value[int64](t, conn, "SELECT floor FROM postbus.state"); got != 7 {
		t.Errorf("floor %d, want 7", got)
	}
}
