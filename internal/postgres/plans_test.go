package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/db"
)

// loud fills the log with rows of one channel.
func loud(t *testing.T, url string) {
	t.Helper()
	exec(t, connect(t, url), "INSERT INTO postbus.bus (channel, type, json) SELECT 'loud', '', '1' FROM generate_series(1, 20000)",
		"UPDATE postbus.state SET floor = 20000")
}

// looked says what a transaction of conn has done with the log while work ran.
func looked(t *testing.T, conn *pgx.Conn, work func(context.Context) error) (fetched, scans int) {
	t.Helper()
	count := func(what string) int {
		t.Helper()
		return value[int](t, conn, "SELECT coalesce(sum("+what+"), 0)::int FROM pg_stat_xact_user_tables WHERE relid = 'postbus.bus'::regclass")
	}
	exec(t, conn, "BEGIN")
	fetched, scans = count("idx_tup_fetch"), count("seq_scan") // of transactions that are not in the statistics yet
	if err := work(t.Context()); err != nil {
		t.Fatal(err)
	}
	fetched, scans = count("idx_tup_fetch")-fetched, count("seq_scan")-scans
	exec(t, conn, "COMMIT")
	return fetched, scans
}

// TestStatementsArePlannedOnce in a session, when the table is empty, and go by its indexes when it has become large.
func TestStatementsArePlannedOnce(t *testing.T) {
	d, url := open(t)
	pooled, err := d.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Release()
	opened, _ := openTail(t, d, 0)
	follows := opened.(*tail)
	statements := map[string]struct {
		conn *pgx.Conn
		read func(ctx context.Context, after int64) (rows int, err error)
	}{
		"a page": {pooled.Conn(), func(ctx context.Context, after int64) (int, error) {
			rows, err := db.New(pooled).ReadPage(ctx, db.ReadPageParams{Channels: []string{"loud", "quiet"}, After: after, Until: 20000, Rows: 100, Bytes: 1 << 20})
			return len(rows), err
		}},
		"the tail": {follows.conn, func(ctx context.Context, after int64) (int, error) {
			rows, err := follows.queries.ReadTail(ctx, db.ReadTailParams{After: after, Held: []byte{1}, Rows: 100, Bytes: 1 << 20})
			return len(rows), err
		}},
		"the tail of some channels": {follows.conn, func(ctx context.Context, after int64) (int, error) {
			rows, err := follows.queries.ReadTailOf(ctx, db.ReadTailOfParams{Channels: []string{"loud"}, After: after, Held: []byte{1}, Rows: 100, Bytes: 1 << 20})
			return len(rows), err
		}},
	}
	for name, s := range statements {
		if n, err := s.read(t.Context(), 0); n > 1 || err != nil {
			t.Fatalf("%s of an empty table: %d rows, %v", name, n, err)
		}
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			exec(t, connect(t, url), "ANALYZE postbus.bus")
		} else {
			loud(t, url)
		}
		for name, s := range statements {
			fetched, scans := looked(t, s.conn, func(ctx context.Context) error {
				for after := range int64(20) {
					if n, err := s.read(ctx, after); n != 100 || err != nil {
						return fmt.Errorf("%s: %d rows, %w", name, n, err)
					}
				}
				return nil
			})
			if fetched > 20*400 || scans != 0 {
				t.Errorf("%s: fetched %d rows for 20 times 100, scanned the table %d times; analyzed %t", name, fetched, scans, analyzed)
			}
		}
	}
	for _, conn := range []*pgx.Conn{pooled.Conn(), follows.conn} {
		const plans = "SELECT coalesce(sum(custom_plans), 0)::int FROM pg_prepared_statements WHERE statement LIKE '%postbus%'"
		if n := value[int](t, conn, plans); n != 0 {
			t.Errorf("%d plans for the parameters of the moment", n)
		}
	}
}

// TestQuietChannelsAreFoundByTheirIndex where nearly all rows, and all that PostgreSQL knows of, are of one channel: by a node, behind a pooler,
// which has no settings of its own, and in SQL.
func TestQuietChannelsAreFoundByTheirIndex(t *testing.T) {
	d, url := open(t)
	loud(t, url)
	exec(t, connect(t, url), "ANALYZE postbus.bus")
	pooled, err := d.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Release()
	var quiet []string
	for n := range 50 {
		quiet = append(quiet, fmt.Sprint("quiet-", n))
	}
	plain := connect(t, url)
	page := func(q *db.Queries) func(context.Context) error {
		return func(ctx context.Context) error {
			rows, err := q.ReadPage(ctx, db.ReadPageParams{Channels: quiet, Until: 20000, Rows: 100, Bytes: 1 << 20})
			if err == nil && (len(rows) != 1 || rows[0].ID != nil) {
				err = fmt.Errorf("%d rows", len(rows))
			}
			return err
		}
	}
	for name, c := range map[string]struct {
		conn *pgx.Conn
		read func(context.Context) error
	}{
		"a node":          {pooled.Conn(), page(db.New(pooled))},
		"behind a pooler": {plain, page(db.New(plain))},
		"SQL": {plain, func(ctx context.Context) error {
			_, err := plain.Exec(ctx, "SELECT postbus.poll($1, 0)", quiet)
			return err
		}},
	} {
		if fetched, _ := looked(t, c.conn, c.read); fetched != 0 {
			t.Errorf("%s fetched %d rows of other channels", name, fetched)
		}
	}
}
