package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// putBack leaves what a file-level restore does: the table and its sequence of some time
// ago, and no connection of before.
func putBack(t *testing.T, url string, last bus.ID) {
	t.Helper()
	conn := connect(t, url)
	exec(t, conn, fmt.Sprintf("DELETE FROM postbus.bus WHERE id > %d", last),
		fmt.Sprintf("UPDATE postbus.state SET floor = least(floor, %d)", last),
		fmt.Sprintf("SELECT setval('postbus.bus_id_seq', %d)", last),
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	within(t, "the others have gone", func() bool {
		return value[int](t, conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == 1
	})
}

// TestDatabaseThatWentBackBeginsAHistory on a connection of the pool, too: it may be faster
// than the tail's.
func TestDatabaseThatWentBackBeginsAHistory(t *testing.T) {
	for _, known := range []string{"written", "read"} {
		t.Run(known, func(t *testing.T) {
			d, url := open(t)
			if known == "written" {
				appendAll(t, d, []bus.Message{{Channel: "a", JSON: "1"}, {Channel: "a", JSON: "2"}})
			} else {
				tail, _ := openTail(t, d, 0)
				exec(t, connect(t, url), "SELECT postbus.send('a', '1')", "SELECT postbus.send('a', '2')")
				if _, _, err := readTail(t, tail, 0); err != nil {
					t.Fatal(err)
				}
			}
			putBack(t, url, 1)
			var stored []*bus.Notification
			within(t, "a message is stored", func() bool { // connections of before are dead
				_, stored, _ = d.Append(t.Context(), [][]bus.Message{{{Channel: "a", JSON: "3"}}})
				return len(stored) > 0
			})
			if id := stored[0].ID; id != 1<<32 {
				t.Errorf("the first id after the database went back is %d, want 2^32", id)
			}
		})
	}
}

// TestDatabaseThatLostTheNewestRowBeginsAHistory though its sequence is above: a crash takes
// a sequence up to 32 further, and another sender may have been faster than this node.
func TestDatabaseThatLostTheNewestRowBeginsAHistory(t *testing.T) {
	for name, change := range map[string]string{
		"the sequence is above": "SELECT setval('postbus.bus_id_seq', 33)",
		"another has its id":    "SELECT postbus.send('a', 'null')",
	} {
		t.Run(name, func(t *testing.T) {
			d, url := open(t)
			appendAll(t, d, []bus.Message{{Channel: "a", JSON: "1"}, {Channel: "a", JSON: "2"}, {Channel: "a", TTL: time.Hour}})
			putBack(t, url, 1)
			conn := connect(t, url)
			exec(t, conn, change, "SELECT postbus.send('a', '4')")
			_, start := openTail(t, d, 3)
			if len(start.Histories) != 1 || start.Histories[0].Until != 1<<32-1 {
				t.Errorf("histories %+v, want one from 2^32 on", start.Histories)
			}
			if _, again := openTail(t, d, 3); len(again.Histories) != 1 {
				t.Errorf("histories %+v after it was noticed, want one", again.Histories)
			}
		})
	}
}

// What retention and a ttl take is not lost, and a database that only crashed has it all.
func TestDatabaseThatLostNothingGoesOn(t *testing.T) {
	d, url := open(t)
	appendAll(t, d, []bus.Message{{Channel: "a", JSON: "1"}, {Channel: "a", JSON: "2"}, {Channel: "a", TTL: time.Millisecond}})
	conn := connect(t, url)
	for _, change := range []string{
		"SELECT 1", "DELETE FROM postbus.bus WHERE expires_at IS NOT NULL",
		"WITH gone AS (DELETE FROM postbus.bus) UPDATE postbus.state SET trimmed_to = 2",
	} {
		exec(t, conn, change)
		if _, start := openTail(t, d, 3); len(start.Histories) != 0 {
			t.Errorf("%s: histories %+v, want none", change, start.Histories)
		}
	}
}

// A logical copy of the database (replication into a new cluster, a dump of tables alone)
// brings the rows and leaves the sequences behind.
func TestHistoryIsAboveTheRowsWhateverTheSequencesSay(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT setval('postbus.bus_id_seq', (3::bigint << 32) + 6)", "SELECT postbus.send('a', '1')",
		"SELECT setval('postbus.bus_id_seq', 1, false)", "SELECT setval('postbus.history_first', 1, false)", lose)
	results, _ := appendAll(t, d, []bus.Message{{Channel: "a", JSON: "2"}})
	if id := results[0].Receipts[0].ID; id != 4<<32 {
		t.Errorf("the first id above a row of 3 * 2^32 is %d, want 4 * 2^32", id)
	}
	exec(t, conn, "DELETE FROM postbus.bus", "SELECT setval('postbus.bus_id_seq', 1, false)", "SELECT setval('postbus.history_first', 1, false)")
	if first, err := NewHistory(t.Context(), url); err != nil || first != 5<<32 {
		t.Errorf("the first id above a recorded history is %d (%v), want 5 * 2^32", first, err)
	}
}
