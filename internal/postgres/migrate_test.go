package postgres

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/db/migrations"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestMigratorsAtOnceWaitForEachOther(t *testing.T) {
	url := pgtest.Database(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if version, err := Migrate(t.Context(), url, MigrateOptions{}); err != nil || version != 14 {
				t.Errorf("version %d, %v", version, err)
			}
		})
	}
	group.Wait()
	if n := value[int](t, connect(t, url), "SELECT count(*) FROM postbus.migrations"); n != 14 {
		t.Errorf("%d versions recorded", n)
	}
}

// Migrating waits for no open transaction, and loses and reorders nothing that one has sent before or sends after.
func TestMigratingBelowOpenTransactions(t *testing.T) {
	url := pgtest.Database(t)
	open, other := connect(t, url), connect(t, url)
	for _, name := range []string{"0001_tables", "0002_histories", "0003_checks", "0004_send", "0005_send_messages", "0006_append", "0007_poll", "0008_recent", "0009_roles"} {
		text, err := migrations.Files.ReadFile(name + ".sql")
		if err != nil {
			t.Fatal(err)
		}
		exec(t, other, string(text))
		exec(t, other, "INSERT INTO postbus.migrations (version) VALUES ("+name[:4]+")")
	}
	exec(t, other, "SELECT postbus.send('a', '1')")
	exec(t, open, "SELECT postbus.send('a', '2')", "BEGIN", "SELECT postbus.send('a', '3')", "SELECT postbus.send('a', '4', key => 'k')")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if version, err := Migrate(ctx, url, MigrateOptions{}); err != nil || version != 14 {
		t.Fatalf("version %d, %v", version, err)
	}
	// A new lock makes its session notice the new functions within the transaction.
	exec(t, open, "TABLE postbus.outbox_usual", "SELECT postbus.send('a', '5')", "SELECT postbus.send('a', '6', ttl => '1 h')", "COMMIT")
	exec(t, other, "SELECT postbus.send('a', '7')")
	if got, want := payloads(t, other), "1 2 3 4 5 6 7"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestSchemaThatNeedsANewerProgramIsRefused(t *testing.T) {
	url := pgtest.Database(t)
	if _, err := Migrate(t.Context(), url, MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	exec(t, conn, "INSERT INTO postbus.migrations (version) VALUES (77)")
	if version, err := Migrate(t.Context(), url, MigrateOptions{}); err != nil || version != 77 {
		t.Errorf("a newer schema that suffers this program: %d, %v", version, err)
	}
	exec(t, conn, "UPDATE postbus.settings SET min_program = 2")
	_, err := Migrate(t.Context(), url, MigrateOptions{})
	if err == nil || !strings.Contains(err.Error(), "the schema (version 77) needs a program of number 2 or above, this is 1") {
		t.Errorf("%v", err)
	}
}

func TestOtherEncodingsAreRefused(t *testing.T) {
	conn := connect(t, pgtest.Database(t))
	exec(t, conn, "DROP DATABASE IF EXISTS postbus_ascii", "CREATE DATABASE postbus_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
	config := conn.Config().Copy()
	url := strings.Replace(config.ConnString(), config.Database, "postbus_ascii", 1)
	_, err := Migrate(t.Context(), url, MigrateOptions{})
	if err == nil || !strings.Contains(err.Error(), "the database's encoding is SQL_ASCII, must be UTF8") {
		t.Errorf("%v", err)
	}
	exec(t, conn, "DROP DATABASE postbus_ascii WITH (FORCE)")
}

func TestRolesHaveTheNamesGiven(t *testing.T) {
	url := pgtest.Database(t)
	roles := Roles{Sender: "my sender", Reader: "my reader", Node: "my node"}
	if _, err := Migrate(t.Context(), url, MigrateOptions{Roles: roles}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	t.Cleanup(func() {
		for _, role := range []string{"my sender", "my reader", "my node"} {
			exec(t, conn, `DROP OWNED BY "`+role+`"`, `DROP ROLE "`+role+`"`)
		}
	})
	exec(t, conn, `SET ROLE "my sender"`, "SELECT postbus.send('a', '1')", "RESET ROLE")
	if _, err := conn.Exec(t.Context(), `SET ROLE "my reader"; SELECT postbus.send('a', '1')`, pgx.QueryExecModeSimpleProtocol); code(err) != "42501" {
		t.Errorf("a reader sends: %v", err)
	}
	exec(t, conn, "RESET ROLE")
}

// A node's role owns nothing; everything that serve does must be granted.
func TestNodeRoleSuffices(t *testing.T) {
	url := pgtest.Database(t)
	if _, err := Migrate(t.Context(), url, MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	exec(t, conn, "DROP ROLE IF EXISTS postbus_test_node", "CREATE ROLE postbus_test_node LOGIN PASSWORD 'p' IN ROLE postbus_node")
	t.Cleanup(func() { exec(t, conn, "DROP ROLE postbus_test_node") })
	config := conn.Config()
	asNode := strings.Replace(url, config.User+":"+config.Password+"@", "postbus_test_node:p@", 1)
	if asNode == url {
		t.Fatalf("no user in %q", url)
	}
	d := openAt(t, asNode)
	appendAll(t, d, []bus.Message{keyed(1, "k"), keyed(2, "")})
	tail, _ := openTail(t, d, 0)
	if rows, _, err := readTail(t, tail, 0); err != nil || len(rows) != 2 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if err := tail.SaveFloor(t.Context(), 2); err != nil {
		t.Error(err)
	}
	exec(t, conn, "UPDATE postbus.bus SET sent_at = 'epoch'", "UPDATE postbus.keys SET expires_at = 'epoch'")
	if trimmed, err := d.TrimBatch(t.Context(), 100); err != nil || trimmed.Messages != 2 || trimmed.Keys != 1 {
		t.Errorf("%+v, %v", trimmed, err)
	}
	openTail(t, d, 1000)
	if _, err := d.IDBefore(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if _, err := d.StuckHolders(t.Context()); err != nil {
		t.Error(err)
	}
}
