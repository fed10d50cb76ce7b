package postgres

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// open returns a DB on a fresh database and the URL of the database.
func open(t *testing.T) (*DB, string) {
	t.Helper()
	url := pgtest.Database(t)
	return openAt(t, url), url
}

func openAt(t *testing.T, url string) *DB {
	t.Helper()
	d, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		goleak.VerifyNone(t, pgtest.Goroutines()...)
	})
	return d
}

// connect returns a session of an application.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// payloads returns the JSON payloads of the log, in id order.
func payloads(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return value[string](t, conn, "SELECT coalesce(string_agg(json, ' ' ORDER BY id), '') FROM postbus.bus")
}

func openTail(t *testing.T, d *DB, pos bus.ID) (dispatch.Tail, dispatch.Position) {
	t.Helper()
	tail, start, err := d.OpenTail(t.Context(), pos)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tail.Close)
	return tail, start
}

// within asks condition again until it holds, for at most 10 s.
func within(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatal("waited 10 s for: " + what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

type answer struct {
	Notifications []struct {
		ID      int64
		Channel string
		Type    string
		Payload json.RawMessage
		Binary  *[]byte
		Headers map[string]string
		SentAt  time.Time `json:"sent_at"`
	}
	Last int64
	Gap  *struct {
		Reason       string
		After, Until int64
	}
}

func poll(t *testing.T, conn *pgx.Conn, arguments string) (a answer) {
	t.Helper()
	text := value[string](t, conn, "SELECT postbus.poll("+arguments+")::text")
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return a
}

func readTail(t *testing.T, tail dispatch.Tail, after bus.ID) (rows []*bus.Notification, full bool, err error) {
	t.Helper()
	read, err := tail.Read(t.Context(), dispatch.TailRequest{After: after})
	return read.Notifications, read.Full, err
}
