package tests

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestMetricsHaveTheNamesThatTheDocumentsWatch(t *testing.T) {
	s := serve(t, pgtest.Database(t))
	send(t, s.bus, message("orders", "first"))
	document, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	names := regexp.MustCompile("`(postbus_[a-z_]+)`").FindAllStringSubmatch(strings.Split(string(document), "## What to watch")[1], -1)
	if len(names) < 8 {
		t.Fatalf("the table has %d metrics", len(names))
	}
	code, page := s.get(t, "/metrics")
	for _, name := range append(names, []string{"", "postbus_faults_total"}) {
		if code != 200 || !strings.Contains(page, "\n# TYPE "+name[1]+" ") || !strings.Contains(page, "\n# HELP "+name[1]+" ") {
			t.Errorf("/metrics (%d) does not have %s", code, name[1])
		}
	}
	for _, line := range []string{"postbus_ready 1", "postbus_head 1", "postbus_sends_total 1", "postbus_tail_connected 1", `postbus_faults_total{reason="TOO_LARGE"} 0`} {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("/metrics does not say %s", line)
		}
	}
}

func TestAdminPagesAreThere(t *testing.T) {
	s := serve(t, pgtest.Database(t))
	for path, says := range map[string]string{
		"/livez": "ok\n", "/readyz": "ready\n", "/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile: total", "/debug/pprof/cmdline": "serve",
	} {
		if code, page := s.get(t, path); code != 200 || !strings.Contains(page, says) {
			t.Errorf("%s: %d %.200s", path, code, page)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/readyz"} {
		resp, err := s.http.Get(s.httpURL + path)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("clients see %s: %s", path, resp.Status)
		}
	}
}

// hold leaves an open transaction that has numbered its message already.
func hold(t *testing.T, conn *pgx.Conn) pgx.Tx {
	t.Helper()
	tx, err := conn.Begin(short(t))
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	for _, statement := range []string{`SELECT postbus.send('orders', '"held"')`, "SET CONSTRAINTS ALL IMMEDIATE"} {
		_, err := tx.Exec(short(t), statement)
		must(t, err)
	}
	return tx
}

func TestReadyzNamesWhoHoldsTheTailUp(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url)
	conn := sql(t, url)
	tx := hold(t, conn)
	send(t, s.bus, message("orders", "behind it"))
	holder := fmt.Sprintf(" by .*%d", conn.PgConn().PID())
	held := regexp.MustCompile("^ready\nthe tail is held at 0 for [0-9.ms]+" + holder + "\n$")
	until(t, "/readyz names the holder", func() bool {
		code, page := s.get(t, "/readyz")
		return code == 200 && held.MatchString(page)
	})

	// A node that starts behind a holder cannot know what was there before, and says why.
	next := listening(t, command(t, "serve", "--database-url", url))
	settling := regexp.MustCompile("^settling what was there before the start: at 0 of 2" + holder + "\n")
	until(t, "/readyz of a new node names the holder", func() bool {
		code, page := next.get(t, "/readyz")
		return code == 503 && settling.MatchString(page)
	})
	must(t, tx.Commit(short(t)))
	equal(t, "after its end", textsOf(read(t, s.bus, 2, "orders")), []string{"held", "behind it"})
	for _, node := range []*served{s, next} {
		until(t, "/readyz is plain again", func() bool {
			code, page := node.get(t, "/readyz")
			return code == 200 && page == "ready\n"
		})
	}
}
