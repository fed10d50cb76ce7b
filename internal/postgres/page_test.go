package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

func ids(ns []*bus.Notification) string {
	var b strings.Builder
	for _, n := range ns {
		fmt.Fprint(&b, n.ID, " ")
	}
	return strings.TrimSpace(b.String())
}

func TestPageIsCutByNumberAndBytes(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send((ARRAY['a','b','c'])[1 + n % 3], to_json(repeat('x', 1000))) FROM generate_series(1, 30) n")
	read := func(req dispatch.PageRequest) dispatch.Page {
		t.Helper()
		page, err := d.ReadPage(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	ab := []string{"a", "b"} // all but 2, 5, 8, …
	if page := read(dispatch.PageRequest{Channels: ab, After: 3, Until: 12, Max: 100, MaxBytes: 1 << 20}); ids(page.Notifications) != "4 6 7 9 10 12" || page.Scanned != 12 {
		t.Errorf("whole: %s, scanned %d", ids(page.Notifications), page.Scanned)
	}
	if page := read(dispatch.PageRequest{Channels: ab, After: 3, Until: 30, Max: 3, MaxBytes: 1 << 20}); ids(page.Notifications) != "4 6 7" || page.Scanned != 7 {
		t.Errorf("by number: %s, scanned %d", ids(page.Notifications), page.Scanned)
	}
	if page := read(dispatch.PageRequest{Channels: ab, After: 3, Until: 30, Max: 100, MaxBytes: 2500}); ids(page.Notifications) != "4 6 7" || page.Scanned != 7 {
		t.Errorf("by bytes: %s, scanned %d", ids(page.Notifications), page.Scanned)
	}
	if page := read(dispatch.PageRequest{Channels: ab, After: 3, Until: 30, Max: 100, MaxBytes: 1}); ids(page.Notifications) != "4" || page.Scanned != 4 {
		t.Errorf("at least one: %s, scanned %d", ids(page.Notifications), page.Scanned)
	}
	exec(t, conn, "UPDATE postbus.state SET trimmed_to = 20", "UPDATE postbus.bus SET expires_at = clock_timestamp() WHERE id = 24",
		"UPDATE postbus.bus SET expires_at = clock_timestamp() + interval '1 hour' WHERE id = 27")
	page := read(dispatch.PageRequest{Channels: []string{"a"}, After: 21, Until: 29, Max: 100, MaxBytes: 1 << 20})
	if ids(page.Notifications) != "27" || page.Scanned != 29 || page.TrimmedTo != 20 {
		t.Errorf("expired: %s, scanned %d, trimmed to %d", ids(page.Notifications), page.Scanned, page.TrimmedTo)
	}
	if life := time.Until(page.Notifications[0].Expires); life < 59*time.Minute || life > time.Hour {
		t.Errorf("it has %s to live, want an hour", life)
	}
	if page := read(dispatch.PageRequest{Channels: []string{"none"}, Until: 30, Max: 1, MaxBytes: 1}); len(page.Notifications) != 0 || page.TrimmedTo != 20 || page.Scanned != 30 {
		t.Errorf("an empty page: %+v", page)
	}
}

func TestIDBefore(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	before := func(age time.Duration) bus.ID {
		t.Helper()
		id, err := d.IDBefore(t.Context(), age)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if id := before(0); id != 0 {
		t.Errorf("of an empty log: %d", id)
	}
	exec(t, conn, "SELECT postbus.send('a', '1') FROM generate_series(1, 100)",
		"UPDATE postbus.bus SET sent_at = clock_timestamp() - (101 - id) * interval '1 second'", "DELETE FROM postbus.bus WHERE id % 10 = 0",
		"UPDATE postbus.state SET floor = 98")
	if id := before(50500 * time.Millisecond); id != 49 { // 50 is gone
		t.Errorf("older than 50.5 s: %d, want 49", id)
	}
	if id := before(0); id != 98 {
		t.Errorf("older than now: %d, want the floor", id)
	}
	if id := before(time.Hour); id != 0 {
		t.Errorf("older than an hour: %d", id)
	}
}

func TestSQLPollAnswersLikeThePollOfTheAPI(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	exec(t, conn, `SELECT postbus.send('a', '{"n": 1e400}', type => 'é"', headers => '{"h":"\"v\""}')`, `SELECT postbus.send_binary('b', decode(repeat('ff', 100), 'hex'))`,
		"SELECT postbus.send('c', '3')", "SELECT postbus.send('a', '4', ttl => '1 microsecond')", "SELECT postbus.send('a', '5')", "SELECT postbus.send('a', '6')",
		"UPDATE postbus.state SET floor = 5")
	a := poll(t, conn, "'{a,b,a}', 0")
	if len(a.Notifications) != 3 || a.Last != 5 || a.Gap != nil {
		t.Fatalf("%+v", a)
	}
	n := a.Notifications[0]
	if n.ID != 1 || n.Channel != "a" || n.Type != `é"` || string(n.Payload) != `{"n": 1e400}` || n.Headers["h"] != `"v"` || time.Since(n.SentAt) > time.Minute {
		t.Errorf("%+v", n)
	}
	if b := a.Notifications[1]; b.Payload != nil || len(*b.Binary) != 100 || b.Headers == nil {
		t.Errorf("%+v", b)
	}
	if a := poll(t, conn, "'{a}', 0, 1"); len(a.Notifications) != 1 || a.Last != 1 {
		t.Errorf("cut: %+v", a)
	}
	if a := poll(t, conn, "'{a}'"); len(a.Notifications) != 0 || a.Last != 5 || a.Gap != nil {
		t.Errorf("from now: %+v", a)
	}
	if a := poll(t, conn, "'{a}', 6"); len(a.Notifications) != 0 || a.Last != 6 || a.Gap != nil {
		t.Errorf("ahead of the floor: %+v", a)
	}
	if a := poll(t, conn, "'{a}', 7"); a.Last != 5 || a.Gap == nil || a.Gap.Reason != "REASON_AHEAD" || a.Gap.After != 5 || a.Gap.Until != 5 {
		t.Errorf("ahead of all: %+v %+v", a, a.Gap)
	}
	exec(t, conn, "DELETE FROM postbus.bus WHERE id <= 2", "UPDATE postbus.state SET trimmed_to = 2")
	if a := poll(t, conn, "'{c}', 1"); len(a.Notifications) != 1 || a.Gap == nil || a.Gap.Reason != "REASON_TRIMMED" || a.Gap.After != 1 || a.Gap.Until != 2 {
		t.Errorf("trimmed: %+v %+v", a, a.Gap)
	}
	if a := poll(t, conn, "'{c}', 0"); len(a.Notifications) != 1 || a.Gap != nil {
		t.Errorf("from the oldest: %+v", a)
	}
	for call, fault := range map[string]string{
		"'{}', 0": "channels: 0 channels, 1 to 1000", "'{a}', -1": "after: -1, must not be negative", "'{a}', 0, 1001": "max: 1001, 1 to 1000",
		"'{a,postbus:x}', 0": `channels[1]: begins with "postbus:", which is reserved`,
	} {
		if _, err := conn.Exec(t.Context(), "SELECT postbus.poll("+call+")"); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v, want %q", call, err, fault)
		}
	}
}

func TestSQLPollTellsOfALostHistory(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1')", "SELECT postbus.send('a', '2')", lose)
	other := connect(t, url)
	exec(t, other, "SELECT postbus.send('a', '3')", "UPDATE postbus.state SET floor = 2")
	if a := poll(t, conn, "'{a}', 2"); a.Last != 2 || a.Gap != nil {
		t.Errorf("before the boundary is settled: %+v %+v", a, a.Gap)
	}
	exec(t, other, fmt.Sprintf("UPDATE postbus.state SET floor = %d", int64(1)<<32))
	const until = 1<<32 - 1
	if a := poll(t, conn, "'{a}', 0"); len(a.Notifications) != 2 || a.Last != 2 || a.Gap != nil {
		t.Errorf("before the boundary: %+v %+v", a, a.Gap)
	}
	if a := poll(t, conn, "'{a}', 2"); len(a.Notifications) != 1 || a.Last != until+1 || a.Gap == nil || a.Gap.Reason != "REASON_HISTORY" || a.Gap.After != 2 || a.Gap.Until != until {
		t.Errorf("at the boundary: %+v %+v", a, a.Gap)
	}
	if a := poll(t, conn, "'{a}', 50"); len(a.Notifications) != 1 || a.Gap == nil || a.Gap.After != 50 || a.Gap.Until != until {
		t.Errorf("above what survived: %+v %+v", a, a.Gap)
	}
	if a := poll(t, conn, "'{b}', 1"); len(a.Notifications) != 0 || a.Last != until+1 || a.Gap == nil || a.Gap.After != 2 {
		t.Errorf("another channel: %+v %+v", a, a.Gap)
	}
	if a := poll(t, conn, fmt.Sprintf("'{a}', %d", until)); len(a.Notifications) != 1 || a.Gap != nil {
		t.Errorf("behind the boundary: %+v %+v", a, a.Gap)
	}
}

func TestSQLPollIsCutNearOneMebibyte(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', to_json(repeat('x', 400000))) FROM generate_series(1, 5)", "UPDATE postbus.state SET floor = 5")
	if a := poll(t, conn, "'{a}', 0"); len(a.Notifications) != 3 || a.Last != 3 {
		t.Errorf("%d notifications, last %d", len(a.Notifications), a.Last)
	}
}

// TestPagesOfManyChannelsMakeTheWhole: whatever way a page is looked for, where what is asked for is dense and where it is rare; without what has
// expired.
func TestPagesOfManyChannelsMakeTheWhole(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, `INSERT INTO postbus.bus (channel, type, json, expires_at)
		SELECT CASE WHEN i % 2000 < 700 AND i % 3 > 0 OR i % 2000 < 1500 AND hashint4(i) % 15 = 0 OR i % 500 = 0
			THEN 'asked-' || i % 40 ELSE 'other-' || i % 7 END, '', to_json(repeat('x', i % 300)),
		       CASE WHEN i % 11 = 0 THEN clock_timestamp() - interval '1 s' END
		FROM generate_series(1, 6000) i`, "DELETE FROM postbus.bus WHERE id % 13 = 0")
	const until = 5900
	for _, channels := range []int{manyChannels, 40} {
		want := value[[]int64](t, conn, `SELECT array_agg(id ORDER BY id) FROM postbus.bus
			WHERE channel LIKE 'asked-%' AND substr(channel, 7)::int < $2 AND expires_at IS NULL AND id <= $1`, until, channels)
		for _, cut := range []struct{ max, bytes int }{{1, 1 << 20}, {7, 1 << 20}, {20, 1 << 20}, {33, 1 << 20}, {100, 1 << 20}, {100, 2000}, {1000, 1 << 20}, {10, 1}} {
			req := dispatch.PageRequest{Until: until, Max: cut.max, MaxBytes: cut.bytes}
			for n := range channels {
				req.Channels = append(req.Channels, fmt.Sprint("asked-", n))
			}
			var got []int64
			for req.After < until {
				page, err := d.ReadPage(t.Context(), req)
				if err != nil || page.Scanned <= req.After || len(page.Notifications) > cut.max {
					t.Fatalf("after %d: %d notifications, scanned %d, %v", req.After, len(page.Notifications), page.Scanned, err)
				}
				for _, n := range page.Notifications {
					got = append(got, int64(n.ID))
				}
				req.After = page.Scanned
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d channels, %+v: read %d notifications, want %d", channels, cut, len(got), len(want))
			}
		}
	}
}
