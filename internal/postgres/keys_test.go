package postgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/groupcommit"
)

func code(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return fmt.Sprint(err)
}

func keyed(n int, key string) bus.Message {
	return bus.Message{Channel: "a", JSON: fmt.Sprint(n), Key: key}
}

func appendAll(t *testing.T, d *DB, sends ...[]bus.Message) ([]groupcommit.Result, []*bus.Notification) {
	t.Helper()
	results, stored, err := d.Append(t.Context(), sends)
	if err != nil {
		t.Fatal(err)
	}
	return results, stored
}

func TestKeyIsStoredOnceOnBothRoads(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1', key => 'sql')",
		"BEGIN", "SELECT postbus.send('a', '2', key => 'sql')", "SELECT postbus.send('a', '3', key => 'twice')",
		"SELECT postbus.send('a', '4', key => 'twice')", "SELECT postbus.send('b', '5', key => 'twice')", "COMMIT",
		"BEGIN", "SELECT postbus.send('a', '6', key => 'undone')", "ROLLBACK",
		"BEGIN", "SAVEPOINT s", "SELECT postbus.send('a', '7', key => 'undone')", "ROLLBACK TO s", "SELECT postbus.send('a', '8', key => 'undone')", "COMMIT")
	results, stored := appendAll(t, d, []bus.Message{keyed(9, "sql"), keyed(10, "")}, []bus.Message{keyed(11, "node"), keyed(12, "node")}, []bus.Message{keyed(13, "node")})
	exec(t, conn, "SELECT postbus.send('a', '14', key => 'node')")
	if got, want := payloads(t, conn), "1 3 5 8 10 11"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
	first := bus.ID(value[int64](t, conn, "SELECT postbus.id_of('a', 'sql')"))
	node := bus.ID(value[int64](t, conn, "SELECT postbus.id_of('a', 'node')"))
	if r := results[0].Receipts[0]; r != (bus.Receipt{ID: first, Duplicate: true}) || first == 0 {
		t.Errorf("the second with a key got %+v, want a duplicate of %d", r, first)
	}
	for _, r := range []bus.Receipt{results[1].Receipts[1], results[2].Receipts[0]} {
		if r != (bus.Receipt{ID: node, Duplicate: true}) {
			t.Errorf("a duplicate in the batch got %+v, want one of %d", r, node)
		}
	}
	if len(stored) != 2 || stored[0].ID != results[0].Receipts[1].ID || stored[1].ID != node || stored[0].ID >= stored[1].ID {
		t.Errorf("%d stored", len(stored))
	}
}

func TestKeyExpires(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1', key => 'k')", "UPDATE postbus.keys SET expires_at = clock_timestamp()",
		"SELECT postbus.send('a', '2', key => 'k')", "UPDATE postbus.keys SET expires_at = clock_timestamp()")
	if id := value[*int64](t, conn, "SELECT postbus.id_of('a', 'k')"); id != nil {
		t.Errorf("an expired key has id %d", *id)
	}
	appendAll(t, d, []bus.Message{keyed(3, "k")}, []bus.Message{keyed(4, "k")})
	if got := payloads(t, conn); got != "1 2 3" {
		t.Errorf("stored %q, want 1 2 3", got)
	}
}

func TestBusyKeyWaitsForNobody(t *testing.T) {
	d, url := open(t)
	one, two := connect(t, url), connect(t, url)
	exec(t, one, "BEGIN", "SELECT postbus.send('a', '1', key => 'x')")
	exec(t, two, "BEGIN", "SELECT postbus.send('a', '2', key => 'y')")
	// Opposite order: both are told at once.
	exec(t, one, "SAVEPOINT s")
	if _, err := one.Exec(t.Context(), "SELECT postbus.send('a', '3', key => 'y')"); code(err) != "55P03" {
		t.Errorf("a key in use: %v, want 55P03", err)
	}
	if _, err := two.Exec(t.Context(), "SELECT postbus.send('a', '4', key => 'x')"); code(err) != "55P03" {
		t.Errorf("a key in use: %v, want 55P03", err)
	}
	exec(t, one, "ROLLBACK TO s")
	exec(t, two, "ROLLBACK", "BEGIN", "SELECT postbus.send('a', '5', key => 'y')")
	results, stored := appendAll(t, d, []bus.Message{keyed(6, "free"), keyed(7, "y")}, []bus.Message{keyed(8, "")}, []bus.Message{keyed(9, "free")})
	if !results[0].Busy || len(results[0].Receipts) == 2 && results[0].Receipts[0].ID != 0 {
		t.Errorf("a send with a busy key: %+v", results[0])
	}
	if results[1].Busy || results[2].Busy || results[2].Receipts[0].Duplicate || len(stored) != 2 {
		t.Errorf("the others: %+v", results)
	}
	exec(t, one, "ROLLBACK")
	exec(t, two, "COMMIT")
	if got := payloads(t, one); got != "8 9 5" {
		t.Errorf("stored %q, want 8 9 5", got)
	}
}

func TestKeyNewerThanTheSnapshotIsASerializationFailure(t *testing.T) {
	_, url := open(t)
	for _, isolation := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		old, conn := connect(t, url), connect(t, url)
		exec(t, old, "BEGIN ISOLATION LEVEL "+isolation, "SELECT 1")
		exec(t, conn, "SELECT postbus.send('"+isolation+"', '1', key => 'k')")
		if _, err := old.Exec(t.Context(), "SELECT postbus.send('"+isolation+"', '2', key => 'k')"); code(err) != "40001" {
			t.Errorf("%s: %v, want 40001", isolation, err)
		}
		exec(t, old, "ROLLBACK")
	}
}

func TestManyUseOneKeyAtOnce(t *testing.T) {
	d, url := open(t)
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for range 20 {
				results, _, err := d.Append(t.Context(), [][]bus.Message{{keyed(n, "p"), keyed(n, "q")}, {keyed(n, "q"), keyed(n, "p")}})
				if err != nil {
					t.Error(err)
				}
				for _, r := range results {
					for _, receipt := range r.Receipts {
						if receipt.ID == 0 && !r.Busy {
							t.Errorf("a receipt without an id: %+v", r)
						}
					}
				}
			}
		})
	}
	group.Wait()
	if n := value[int](t, connect(t, url), "SELECT count(*) FROM postbus.bus"); n != 2 {
		t.Errorf("%d stored, want one of each key", n)
	}
}
