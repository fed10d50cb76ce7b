package postgres

import (
	"sync"
	"testing"

	"github.com/postbus/postbus/internal/bus"
)

// lose makes the present history look like a lost one, as a failover does.
const lose = "SELECT setval('postbus.history_mark', 7, true)"

func TestNewHistoryBeginsOnceAndHigher(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	appendAll(t, d, []bus.Message{{Channel: "a", JSON: "1"}, {Channel: "a", JSON: "2"}})
	exec(t, conn, lose)

	// 32 at once, in new sessions: some roll back, some hold their transaction open, some see an old snapshot.
	var group sync.WaitGroup
	open := make(chan struct{})
	for i := range 32 {
		c := connect(t, url)
		group.Go(func() {
			begin := "BEGIN"
			if i%4 == 1 {
				begin = "BEGIN ISOLATION LEVEL REPEATABLE READ"
			}
			exec(t, c, begin, "SELECT postbus.send('a', '3')", "SET CONSTRAINTS ALL IMMEDIATE")
			switch i % 4 {
			case 2:
				exec(t, c, "ROLLBACK")
			case 3:
				<-open
				exec(t, c, "COMMIT")
			default:
				exec(t, c, "COMMIT")
			}
		})
	}
	within(t, "those who do not wait", func() bool {
		return value[int](t, conn, "SELECT count(*) FROM postbus.bus WHERE json = '3'") == 16
	})
	close(open)
	group.Wait()
	low, high := value[int64](t, conn, "SELECT min(id) FROM postbus.bus WHERE json = '3'"), value[int64](t, conn, "SELECT max(id) FROM postbus.bus")
	if low < 1<<32 || high > 1<<32+40 {
		t.Errorf("ids %d to %d, want them from %d on", low, high, int64(1)<<32)
	}
	_, start := openTail(t, d, 0)
	if want := (bus.Past{Survived: 2, Until: 1<<32 - 1}); len(start.Histories) != 1 || start.Histories[0] != want {
		t.Errorf("histories %+v, want %+v", start.Histories, want)
	}

	// The next one is above all of it, though this one went past a multiple of 2^32.
	exec(t, conn, "SELECT setval('postbus.bus_id_seq', (5::bigint << 32) + 100)", lose)
	_, start = openTail(t, d, 0)
	if got := start.Histories[len(start.Histories)-1].Until; got != 6<<32-1 {
		t.Errorf("the next history begins after %d, want %d", got, int64(6)<<32-1)
	}
}

func TestRolledBackHistoryIsRecordedByTheNext(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, lose, "BEGIN", "SELECT postbus.send('a', '1')", "SET CONSTRAINTS ALL IMMEDIATE", "ROLLBACK")
	if n := value[int](t, conn, "SELECT count(*) FROM postbus.histories"); n != 1 {
		t.Fatalf("%d histories recorded after the rollback", n)
	}
	exec(t, conn, "SELECT postbus.send('a', '2')")
	_, start := openTail(t, d, 0)
	if len(start.Histories) != 1 || start.Histories[0].Until != 1<<32-1 {
		t.Errorf("histories %+v", start.Histories)
	}
	if n := value[int](t, conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"); n != 0 {
		t.Errorf("%d advisory locks are left", n)
	}
}

func TestNodeAheadOfTheSequenceBeginsAHistory(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	results, _ := appendAll(t, d, []bus.Message{{Channel: "a", JSON: "1"}})
	first := results[0].Receipts[0].ID
	if _, start := openTail(t, d, first); len(start.Histories) != 0 {
		t.Errorf("a history began though the sequence has pos: %+v", start.Histories)
	}
	_, start := openTail(t, d, first+1000)
	if len(start.Histories) != 1 || start.Histories[0] != (bus.Past{Survived: first, Until: 1<<32 - 1}) {
		t.Errorf("histories %+v", start.Histories)
	}
	openTail(t, d, first+1000) // the second node
	results, _ = appendAll(t, d, []bus.Message{{Channel: "a", JSON: "2"}})
	if got := results[0].Receipts[0].ID; got != 1<<32 {
		t.Errorf("first id of the new history: %d", got)
	}
	id, err := NewHistory(t.Context(), url)
	if err != nil || id != 2<<32 {
		t.Errorf("NewHistory: %d, %v; want %d", id, err, int64(2)<<32)
	}
	if last, err := d.LastGiven(t.Context()); err != nil || last != 2<<32-1 {
		t.Errorf("LastGiven: %d, %v", last, err)
	}
	exec(t, conn, "SELECT postbus.send('a', '3')")
	if got := value[int64](t, conn, "SELECT max(id) FROM postbus.bus"); got != 2<<32 {
		t.Errorf("first id after NewHistory: %d", got)
	}
}

func TestTableMadeAnewIsANewHistory(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1')",
		"CREATE TABLE copy AS SELECT * FROM postbus.bus", "ALTER SEQUENCE postbus.bus_id_seq OWNED BY NONE", "DROP TABLE postbus.bus CASCADE",
		`CREATE TABLE postbus.bus (id bigint PRIMARY KEY DEFAULT nextval('postbus.bus_id_seq'), channel text, type text, json text, bin bytea,
			headers jsonb, sent_at timestamptz DEFAULT clock_timestamp(), expires_at timestamptz)`,
		"SELECT postbus.send('a', '2')")
	if got := value[int64](t, conn, "SELECT id FROM postbus.bus"); got != 1<<32 {
		t.Errorf("the restored table's first id is %d, want %d", got, int64(1)<<32)
	}
}
