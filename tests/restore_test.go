package tests

import (
	"fmt"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// pgProgram runs one of PostgreSQL's client programs of server's release.
func pgProgram(t *testing.T, server *embedded.Server, name string, args ...string) {
	t.Helper()
	said, err := exec.CommandContext(short(t), filepath.Join(server.BinDir(), name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, said)
	}
}

// floorOf waits until the database has recorded that id is settled: then a copy of it
// shows all up to there.
func floorOf(t *testing.T, url string, id int64) {
	t.Helper()
	conn := sql(t, url)
	until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= id })
	conn.Close(short(t))
}

// G4: a dump, restored into another cluster. The roles come with pg_dumpall, their rights
// with the dump.
func TestRestoredDumpTellsWhatItLost(t *testing.T) {
	t.Parallel()
	from, url := pgtest.Server(t), pgtest.Database(t)
	a := serve(t, url)
	was := &past{channel: "orders", survived: store(t, "orders", numbered("kept", 6), a.node())}
	floorOf(t, url, was.survived[5].id)
	folder := t.TempDir()
	roles, dump := filepath.Join(folder, "roles.sql"), filepath.Join(folder, "app.dump")
	pgProgram(t, from, "pg_dumpall", "--roles-only", "--no-role-passwords", "--dbname", url, "--file", roles)
	pgProgram(t, from, "pg_dump", "--format", "custom", "--file", dump, url)
	was.lost = store(t, "orders", numbered("lost", 3), a.node())
	a.stop(t)

	to := pgtest.Exclusive(t, nil)
	pgProgram(t, from, "psql", "--quiet", "--file", roles, to.URL())
	pgProgram(t, from, "pg_restore", "--exit-on-error", "--dbname", to.URL(), dump)
	a, b := serve(t, to.URL()), serve(t, to.URL())
	was.fresh = store(t, "orders", numbered("fresh", 3), a.node(), b.node())
	conn := sql(t, to.URL())
	was.check(t, a.node(), conn)
	was.check(t, b.node(), conn)

	do(t, conn, "CREATE ROLE app LOGIN PASSWORD 'x' IN ROLE postbus_sender, postbus_reader")
	address, err := neturl.Parse(to.URL())
	must(t, err)
	address.User = neturl.UserPassword("app", "x")
	do(t, sql(t, address.String()), `SELECT postbus.send('orders', '"by the application"')`, "SELECT postbus.poll('{orders}', 0)")
	a.stop(t)
	b.stop(t)
}

// A disk is a server whose files are copied while it is down, and put back.
type disk struct {
	*embedded.Server
	copied string
}

func (d *disk) files() string { return filepath.Join(d.DataDir(), "cluster") }

func (d *disk) copy(t *testing.T, from, to string) {
	t.Helper()
	must(t, d.StopFast(short(t)))
	must(t, os.RemoveAll(to))
	if said, err := exec.CommandContext(short(t), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, said)
	}
	must(t, d.Restart(short(t)))
}

// save copies the files; putBack puts the copy in their place.
func (d *disk) save(t *testing.T)    { t.Helper(); d.copy(t, d.files(), d.copied) }
func (d *disk) putBack(t *testing.T) { t.Helper(); d.copy(t, d.copied, d.files()) }

// migrateNewHistory runs what the runbook says.
func migrateNewHistory(t *testing.T, url string) {
	t.Helper()
	if got := run(t, command(t, "migrate", "--new-history", "--database-url", url)); got.code != 0 || !strings.Contains(got.stdout, "a new history begins at id ") {
		t.Fatalf("migrate --new-history: %d %s%s", got.code, got.stdout, got.stderr)
	}
}

// G4: the data directory put back from a copy of its files, which the database itself
// cannot notice.
func TestFilesPutBack(t *testing.T) {
	t.Parallel()
	d := &disk{Server: pgtest.Exclusive(t, nil), copied: filepath.Join(t.TempDir(), "copied")}
	a := serve(t, d.URL())
	was := &past{channel: "orders", survived: store(t, "orders", numbered("kept", 6), a.node())}
	floorOf(t, d.URL(), was.survived[5].id)
	d.save(t)

	// A node that lives through it has seen more than there is: it begins a new history.
	reader := a.node().subscribe(t, -1, "orders")
	was.lost = store(t, "orders", numbered("lost", 5), a.node())
	reader.expect(numbered("lost", 5)...)
	d.putBack(t)
	was.fresh = store(t, "orders", numbered("fresh", 3), a.node())
	reader.expectLoss(was)
	was.check(t, a.node(), sql(t, d.URL()))
	a.stop(t)

	// By the runbook: nodes stopped, files put back, said so, nodes started. It is the second
	// time that these files are put back, and cursors of the first time may be held: said
	// once more, the history of the first time is told as ended, too.
	d.putBack(t)
	migrateNewHistory(t, d.URL())
	migrateNewHistory(t, d.URL())
	b := serve(t, d.URL())
	first := was.fresh[2].id
	was.fresh = store(t, "orders", numbered("by the runbook", 3), b.node())
	if was.fresh[0].id != 2<<32 {
		t.Errorf("the first id is %d, want 2^33", was.fresh[0].id)
	}
	conn := sql(t, d.URL())
	if a := b.node().pollRPC(t, first, "orders", 100); a.Gap == nil || a.Gap.Reason != "REASON_HISTORY" || a.Gap.Until != was.bound() || len(a.texts()) != 3 {
		t.Errorf("a cursor from the first time: %+v", a)
	}
	conn.Close(short(t))
	b.stop(t)
}

// What docs/operations.md says of a runbook that was forgotten: AHEAD above the sequence,
// and once new messages have passed the old ids, a cursor from before is taken at its word.
func TestFilesPutBackAndNobodySaidSo(t *testing.T) {
	t.Parallel()
	d := &disk{Server: pgtest.Exclusive(t, nil), copied: filepath.Join(t.TempDir(), "copied")}
	a := serve(t, d.URL())
	kept := store(t, "orders", numbered("kept", 6), a.node())
	floorOf(t, d.URL(), kept[5].id)
	d.save(t)
	lost := store(t, "orders", numbered("lost", 5), a.node())
	a.stop(t)
	d.putBack(t)

	a = serve(t, d.URL())
	conn := sql(t, d.URL())
	for how, got := range map[string]answer{
		"gRPC": a.node().pollRPC(t, lost[4].id, "orders", 100), "JSON": a.node().pollJSON(t, lost[4].id, "orders", "&timeout=0s"),
		"SQL": pollSQL(t, conn, lost[4].id, "orders", 100),
	} {
		if got.Gap == nil || got.Gap.Reason != "REASON_AHEAD" || got.Last != kept[5].id {
			t.Errorf("%s: above the sequence: %+v, want AHEAD", how, got)
		}
	}
	again := store(t, "orders", numbered("again", 7), a.node())
	if again[4].id != lost[4].id {
		t.Fatalf("ids %v after %v", again, lost)
	}
	got := a.node().pollRPC(t, lost[4].id, "orders", 100)
	if got.Gap != nil || fmt.Sprint(got.texts()) != "[again5 again6]" {
		t.Errorf("below the sequence: %+v; the runbook says that it is taken at its word", got)
	}

	// Said late, to a node that is alive: whoever stands below is told with the next message.
	migrateNewHistory(t, d.URL())
	was := &past{channel: "orders", survived: append(kept, again...), lost: []stored{{again[6].id + 1, ""}, {again[6].id + 2, ""}}}
	was.fresh = store(t, "orders", numbered("fresh", 3), a.node())
	was.check(t, a.node(), conn)
	a.stop(t)
}

// G4: a base backup started beside its original, as staging is. With a history of its own a
// cursor of one is never taken at its word by the other.
func TestCopyBesideItsOriginal(t *testing.T) {
	t.Parallel()
	original := pgtest.Exclusive(t, nil)
	n := startNode(t, original.URL(), nodeOptions{})
	was := &past{channel: "orders", survived: store(t, "orders", numbered("both", 4), n)}
	floorOf(t, original.URL(), was.survived[3].id)
	copied := pgtest.Backup(t, original, embedded.Copy, nil)
	was.lost = store(t, "orders", numbered("original", 3), n)

	migrateNewHistory(t, copied.URL())
	staging := startNode(t, copied.URL(), nodeOptions{})
	was.fresh = store(t, "orders", numbered("staging", 3), staging)
	was.check(t, staging, sql(t, copied.URL()))
	if a := n.pollRPC(t, was.fresh[1].id, "orders", 100); a.Gap == nil || a.Gap.Reason != "REASON_AHEAD" {
		t.Errorf("a cursor of the copy, asked of the original: %+v, want AHEAD", a)
	}
	equal(t, "the original", textsOf(n.poll(t, 0, "orders").GetNotifications()), append(numbered("both", 4), numbered("original", 3)...))
}
