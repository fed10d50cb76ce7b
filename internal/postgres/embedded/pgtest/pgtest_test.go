//go:build unix

package pgtest

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

func count(t *testing.T, url string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var n int
	err = conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relname = 'mark'").Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE mark ()"); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEachDatabaseIsEmpty(t *testing.T) {
	first, second := Database(t), Database(t)
	if n := count(t, first) + count(t, second); n != 0 {
		t.Errorf("%d tables of another test", n)
	}
}

func TestDatabaseIsDroppedDespiteConnections(t *testing.T) {
	var url string
	t.Run("inner", func(t *testing.T) {
		url = Database(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn // it is still open when the database goes
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(t.Context())
		t.Error("the database is still there")
	}
}

func TestExclusiveServerDiesAlone(t *testing.T) {
	server := Exclusive(t, map[string]string{"max_connections": "30"})
	url := DatabaseOn(t, server)
	if err := server.StopImmediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	count(t, Database(t))
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	count(t, url)
}
