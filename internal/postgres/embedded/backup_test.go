//go:build unix

package embedded

import (
	"path/filepath"
	"testing"
	"time"
)

func TestStandbyFollowsUntilItIsPromoted(t *testing.T) {
	primary := startIn(t, newFolder(t))
	mustAsk(t, primary.URL(), "CREATE TABLE kept AS SELECT 'before'::text AS word")
	folder := filepath.Join(newFolder(t), "standby")
	if err := primary.Backup(t.Context(), folder, Standby); err != nil {
		t.Fatal(err)
	}
	standby := startIn(t, folder)
	mustAsk(t, primary.URL(), "INSERT INTO kept VALUES ('after')")
	followed := func() (bool, error) {
		return mustAsk(t, standby.URL(), "SELECT count(*)::text FROM kept") == "2", nil
	}
	if err := poll(t.Context(), time.Minute, followed); err != nil {
		t.Fatal(err)
	}
	if got := mustAsk(t, standby.URL(), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("in recovery: %s", got)
	}
	stop(t, primary)
	if got := mustAsk(t, standby.URL(), "SELECT pg_promote()::text"); got != "true" {
		t.Errorf("promoted: %s", got)
	}
	mustAsk(t, standby.URL(), "INSERT INTO kept VALUES ('promoted')")
}

func TestCopyIsTheClusterOnTheSameTimeline(t *testing.T) {
	server := startIn(t, newFolder(t))
	mustAsk(t, server.URL(), "CREATE TABLE kept AS SELECT 'here'::text AS word")
	folder := filepath.Join(newFolder(t), "copy")
	if err := server.Backup(t.Context(), folder, Copy); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, server.URL(), "DROP TABLE kept")
	const timeline = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
	copied := startIn(t, folder)
	if got, want := mustAsk(t, copied.URL(), timeline), mustAsk(t, server.URL(), timeline); got != want {
		t.Errorf("the copy is on timeline %s, the server on %s", got, want)
	}
	if got := mustAsk(t, copied.URL(), "SELECT word FROM kept"); got != "here" {
		t.Errorf("the copy has %q", got)
	}
}
