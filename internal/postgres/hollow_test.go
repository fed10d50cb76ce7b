package postgres

import (
	"fmt"
	"slices"
	"testing"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// idle makes the next read of a tail one that leaves out what nobody asks for.
func idle(t *testing.T, tail dispatch.Tail) {
	t.Helper()
	read, err := tail.Read(t.Context(), dispatch.TailRequest{Channels: []string{"none"}})
	if err != nil || len(read.Notifications)+len(read.Hollow) < idleRows {
		t.Fatalf("%d rows, %d ids, %v", len(read.Notifications), len(read.Hollow), err)
	}
}

func TestTailLeavesOutWhatNobodyAsksFor(t *testing.T) {
	d, url := open(t)
	tail, _ := openTail(t, d, 0)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send(CASE WHEN i % 4 = 0 THEN 'asked' ELSE 'x' || i END, to_json(i)) FROM generate_series(1, 20) i")
	all, _, err := readTail(t, tail, 0)
	if err != nil || len(all) != 20 {
		t.Fatalf("read %s, %v", ids(all), err)
	}
	for _, c := range []struct {
		name         string
		req          dispatch.TailRequest
		sent, hollow string
	}{
		{"some", dispatch.TailRequest{After: 9, Channels: []string{"asked", "other"}}, "12 16 20", "[10 11 13 14 15 17 18 19]"},
		{"none", dispatch.TailRequest{After: 9, Channels: []string{}}, "", "[10 11 12 13 14 15 16 17 18 19 20]"},
		{"all", dispatch.TailRequest{After: 17}, "18 19 20", "[]"},
		{"but for what is held", dispatch.TailRequest{After: 9, Held: all[10:18], Channels: []string{"asked"}}, "20", "[10 19]"},
		{"nothing there", dispatch.TailRequest{After: 20, Channels: []string{"asked"}}, "", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			idle(t, tail)
			read, err := tail.Read(t.Context(), c.req)
			if err != nil || ids(read.Notifications) != c.sent || fmt.Sprint(read.Hollow) != c.hollow || read.Full {
				t.Errorf("rows %s, ids %v, full %t, %v; want rows %s, ids %s", ids(read.Notifications), read.Hollow, read.Full, err, c.sent, c.hollow)
			}
			for _, n := range read.Notifications {
				if n.JSON != fmt.Sprint(n.ID) || n.Channel != all[n.ID-1].Channel || !n.SentAt.Equal(all[n.ID-1].SentAt) {
					t.Errorf("%+v, want %+v", n, all[n.ID-1])
				}
			}
		})
	}
	exec(t, conn, "UPDATE postbus.state SET floor = 20, trimmed_to = 9")
	idle(t, tail)
	if read, err := tail.Read(t.Context(), dispatch.TailRequest{After: 3, Channels: []string{}}); err != nil || read.TrimmedTo != 9 {
		t.Errorf("trimmed to %d, %v; want 9", read.TrimmedTo, err)
	}
}

// A cut read shows everything up to its last row or id, of whichever kind that is.
func TestCutsOfAReadThatLeavesOut(t *testing.T) {
	d, url := open(t)
	tail, _ := openTail(t, d, 0)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('x', '1') FROM generate_series(1, 990)",
		"SELECT postbus.send(CASE WHEN i < 10 THEN 'asked' ELSE 'x' END, '1') FROM generate_series(1, 20) i")
	idle(t, tail)
	asked := []string{"asked"}
	read, err := tail.Read(t.Context(), dispatch.TailRequest{Channels: asked})
	if err != nil || !read.Full || ids(read.Notifications) != "991 992 993 994 995 996 997 998 999" || len(read.Hollow) != 991 || read.Hollow[990] != 1000 {
		t.Errorf("rows %s, %d ids, full %t, %v", ids(read.Notifications), len(read.Hollow), read.Full, err)
	}
	exec(t, conn, "SELECT postbus.send(CASE WHEN i % 2 = 0 THEN 'asked' ELSE 'x' END, to_json(repeat('x', 1000000))) FROM generate_series(1, 20) i")
	idle(t, tail)
	read, err = tail.Read(t.Context(), dispatch.TailRequest{After: 1010, Channels: asked})
	want := []bus.ID{1011, 1013, 1015, 1017, 1019}
	if err != nil || !read.Full || ids(read.Notifications) != "1012 1014 1016 1018 1020" || !slices.Equal(read.Hollow, want) {
		t.Errorf("rows %s, ids %v, full %t, %v", ids(read.Notifications), read.Hollow, read.Full, err)
	}
}

// TestDatabaseThatLostWhatWasLeftOutBeginsAHistory: a node that has not been sent a row knows
// that it was committed all the same.
func TestDatabaseThatLostWhatWasLeftOutBeginsAHistory(t *testing.T) {
	for name, c := range map[string]struct {
		last   bus.ID // that the database has after it was put back
		change string
	}{
		"and its sequence is above": {8, "SELECT setval('postbus.bus_id_seq', 33)"},
		"of what expires":           {9, "SELECT 1"},
	} {
		t.Run(name, func(t *testing.T) {
			d, url := open(t)
			tail, _ := openTail(t, d, 0)
			conn := connect(t, url)
			exec(t, conn, "SELECT postbus.send('a', '1') FROM generate_series(1, 8)")
			idle(t, tail)
			exec(t, conn, "SELECT postbus.send('a', '9')", "SELECT postbus.send('a', '10', ttl => '1 hour')")
			if read, err := tail.Read(t.Context(), dispatch.TailRequest{After: 8, Channels: []string{}}); err != nil || len(read.Hollow) != 2 {
				t.Fatalf("%+v, %v", read, err)
			}
			putBack(t, url, c.last)
			exec(t, connect(t, url), c.change)
			if _, start := openTail(t, d, 8); len(start.Histories) != 1 || start.Histories[0].Until != 1<<32-1 {
				t.Errorf("histories %+v, want one from 2^32 on", start.Histories)
			}
		})
	}
}

// Behind a pooler statements are not prepared, and answered in text.
func TestTailBehindAPoolerLeavesOutWhatNobodyAsksFor(t *testing.T) {
	direct := pgtest.Database(t)
	d, err := Open(t.Context(), Options{URL: pooler(t, direct)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	tail, _ := openTail(t, d, 0)
	exec(t, connect(t, direct), "SELECT postbus.send(CASE WHEN i = 5 THEN 'a' ELSE 'b' END, '1') FROM generate_series(1, 9) i")
	idle(t, tail)
	read, err := tail.Read(t.Context(), dispatch.TailRequest{After: 1, Channels: []string{"a"}})
	if err != nil || ids(read.Notifications) != "5" || fmt.Sprint(read.Hollow) != "[2 3 4 6 7 8 9]" {
		t.Errorf("rows %s, ids %v, %v", ids(read.Notifications), read.Hollow, err)
	}
}
