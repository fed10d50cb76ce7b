package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestTrimTakesTheOldSettledBeginning(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1') FROM generate_series(1, 20)",
		"UPDATE postbus.bus SET sent_at = 'epoch' WHERE id NOT BETWEEN 11 AND 12", "UPDATE postbus.state SET floor = 8")
	batch := func(rows int32) Trimmed {
		t.Helper()
		trimmed, err := d.TrimBatch(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		return trimmed
	}
	if got := batch(5); got != (Trimmed{Mine: true, Messages: 5, TrimmedTo: 5}) {
		t.Errorf("first batch: %+v", got)
	}
	if got := batch(5); got != (Trimmed{Mine: true, Messages: 3, TrimmedTo: 8}) {
		t.Errorf("up to the floor: %+v", got)
	}
	exec(t, conn, "UPDATE postbus.state SET floor = 20")
	if got := batch(50); got != (Trimmed{Mine: true, Messages: 2, TrimmedTo: 10}) {
		t.Errorf("up to the first that is young: %+v", got)
	}
	if got := batch(50); got != (Trimmed{Mine: true}) {
		t.Errorf("nothing: %+v", got)
	}
	if got := value[int64](t, conn, "SELECT trimmed_to FROM postbus.state"); got != 10 {
		t.Errorf("trimmed_to %d, want 10", got)
	}
}

func TestTrimSweepsWhatExpired(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1', ttl => '1 us', key => n::text) FROM generate_series(1, 5) n", "SELECT postbus.send('a', '1')",
		"UPDATE postbus.keys SET expires_at = 'epoch'", "UPDATE postbus.state SET floor = 4",
		// Somebody takes a key again and stays.
		"BEGIN", "SELECT postbus.send('a', '2', key => '3')")
	got, err := d.TrimBatch(t.Context(), 100)
	if want := (Trimmed{Mine: true, Expired: 4, Keys: 4}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	exec(t, conn, "COMMIT")
	if n := value[int](t, conn, "SELECT count(*) FROM postbus.keys"); n != 1 {
		t.Errorf("%d keys, want the one in use", n)
	}
}

func TestOneNodeTrimsAtATime(t *testing.T) {
	d, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SELECT postbus.send('a', '1')", "UPDATE postbus.bus SET sent_at = 'epoch'", "UPDATE postbus.state SET floor = 1",
		"BEGIN", "SELECT pg_advisory_xact_lock(1346532723, -2)")
	if got, err := d.TrimBatch(t.Context(), 10); err != nil || got != (Trimmed{}) {
		t.Errorf("beside another node: %+v, %v", got, err)
	}
	exec(t, conn, "COMMIT")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Trim(ctx) }()
	within(t, "the message to go", func() bool { return value[int](t, conn, "SELECT count(*) FROM postbus.bus") == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Trim: %v", err)
	}
}

func TestFirstNodesSettingsStay(t *testing.T) {
	url := pgtest.Database(t)
	for i, want := range []time.Duration{time.Hour, time.Hour} {
		d, err := Open(t.Context(), Options{URL: url, Retention: time.Duration(i+1) * time.Hour, MaxBody: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Settings(t.Context())
		if err != nil || s != (Settings{MaxBody: 100_000, Retention: want, KeyRetention: 24 * time.Hour}) {
			t.Errorf("%+v, %v", s, err)
		}
		d.Close()
	}
	conn := connect(t, url)
	if _, err := conn.Exec(t.Context(), "SELECT postbus.send_binary('a', repeat('x', 100001)::bytea)"); err == nil || code(err) != "22023" {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), Options{URL: url, MaxBody: 1}); err == nil {
		t.Error("a limit below 64 KiB was taken")
	}
}
