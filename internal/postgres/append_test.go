package postgres

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/groupcommit"
)

var (
	_ groupcommit.Store = (*DB)(nil)
	_ dispatch.Store    = (*DB)(nil)
	_ dispatch.Tail     = (*tail)(nil)
)

// TestAppendGivesBackWhatATailReads: sends of several messages in one batch, then each message by itself.
func TestAppendGivesBackWhatATailReads(t *testing.T) {
	d, _ := open(t)
	tail, _ := openTail(t, d, 0)
	sends := [][]bus.Message{
		{{Channel: "a", Type: "t", JSON: `{"b":1, "a":2}`, Headers: map[string]string{"h": `"v"`}}, {Channel: "b", Binary: []byte{}}},
		{{Channel: "c", TTL: time.Hour}, {Channel: "d", Binary: []byte{0, 255}, Key: ""}},
	}
	results, stored := appendAll(t, d, sends...)
	for _, m := range slices.Concat(sends...) {
		result, alone := appendAll(t, d, []bus.Message{m})
		results, stored = append(results, result...), append(stored, alone...)
	}
	var receipts []bus.Receipt
	for _, r := range results {
		receipts = append(receipts, r.Receipts...)
	}
	rows, _, err := readTail(t, tail, 0)
	if err != nil || len(rows) != 8 || len(stored) != 8 || len(receipts) != 8 {
		t.Fatalf("%d rows, %d stored, %d receipts, %v", len(rows), len(stored), len(receipts), err)
	}
	show := func(n *bus.Notification) string {
		return fmt.Sprint(n.Channel, n.Type, n.JSON, n.Binary, n.Binary != nil, n.Headers)
	}
	for i, row := range rows {
		got, want := stored[i], row
		if receipts[i] != (bus.Receipt{ID: row.ID}) {
			t.Errorf("receipt %+v, row %d", receipts[i], row.ID)
		}
		if drift := got.Expires.Sub(want.Expires).Abs(); drift > time.Second {
			t.Errorf("expiry differs by %s", drift)
		}
		if got.ID != want.ID || !got.SentAt.Equal(want.SentAt) || show(got) != show(want) {
			t.Errorf("stored %d %v %s, read %d %v %s", got.ID, got.SentAt, show(got), want.ID, want.SentAt, show(want))
		}
		if show(row) != show(rows[i%4]) {
			t.Errorf("alone %s, together %s", show(row), show(rows[i%4]))
		}
	}
	if rows[2].JSON != "null" {
		t.Errorf("no body is stored as %q", rows[2].JSON)
	}
}

func TestAppendSaysWhatBecameOfIt(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	var refused *groupcommit.DataError
	if _, _, err := d.Append(t.Context(), [][]bus.Message{{{Channel: "a\x00", JSON: "1"}}}); !errors.As(err, &refused) {
		t.Errorf("a NUL: %v, want a DataError", err)
	}
	one := [][]bus.Message{{{Channel: "a", JSON: "1"}}}
	// Rolled back by the server, at the commit itself even.
	exec(t, conn, "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$",
		"CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON postbus.bus DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()")
	if _, _, err := d.Append(t.Context(), one); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("an error at the commit: %v, want ErrUnavailable", err)
	}
	// The session is killed while it commits.
	exec(t, conn, "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$")
	result := make(chan error, 1)
	go func() {
		_, _, err := d.Append(t.Context(), one)
		result <- err
	}()
	within(t, "the kill", func() bool {
		return value[int](t, conn, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE application_name = 'postbus' AND wait_event = 'PgSleep' AND datname = current_database()`) == 1
	})
	if err := <-result; !errors.Is(err, bus.ErrUnknownOutcome) {
		t.Errorf("killed in flight: %v, want ErrUnknownOutcome", err)
	}
	exec(t, conn, "DROP TRIGGER fail ON postbus.bus")
	appendAll(t, d, one...)
	if got := payloads(t, conn); got != "1" {
		t.Errorf("stored %q", got)
	}
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
	}{
		{&pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "57014"}, bus.ErrUnavailable},
		{&pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01"}, bus.ErrUnknownOutcome},
		{&pgconn.PgError{Severity: "PANIC", SeverityUnlocalized: "PANIC", Code: "XX000"}, bus.ErrUnknownOutcome},
		{errors.New("unexpected EOF"), bus.ErrUnknownOutcome},
	} {
		if err := outcome(1, c.err); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.err, err, c.want)
		}
	}
	var refused *groupcommit.DataError
	if err := outcome(1, &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "22021"}); !errors.As(err, &refused) || errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestAppendOfMany(t *testing.T) {
	d, url := open(t)
	var sends [][]bus.Message
	for i := range 200 {
		send := make([]bus.Message, 5)
		for j := range send {
			send[j] = bus.Message{Channel: "a", JSON: fmt.Sprint(i*5 + j)}
			if j == 3 {
				send[j].Key = fmt.Sprint("k", i)
			}
		}
		sends = append(sends, send)
	}
	_, stored := appendAll(t, d, sends...)
	conn := connect(t, url)
	if n := value[int](t, conn, "SELECT count(*) FROM (SELECT json::int AS n, row_number() OVER (ORDER BY id) - 1 AS i FROM postbus.bus) x WHERE n <> i"); n != 0 || len(stored) != 1000 {
		t.Errorf("%d of %d are out of order", n, len(stored))
	}
}
