package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/dispatch"
)

// loud fills the log with rows of one channel.
func loud(t *testing.T, url string) {
	t.Helper()
	exec(t, connect(t, url), "INSERT INTO postbus.bus (channel, type, json) SELECT 'loud', '', '1' FROM generate_series(1, 20000)",
		"UPDATE postbus.state SET floor = 20000")
}

// looked says how many entries of indexes a transaction of conn has read while work ran, and how often it went through a table of messages or keys.
func looked(t *testing.T, conn *pgx.Conn, work func(context.Context) error) (read, scans int) {
	t.Helper()
	count := func(of string) int {
		t.Helper()
		return value[int](t, conn, "SELECT coalesce(sum(pg_stat_get_xact_"+of+" FROM pg_index WHERE indrelid = ANY ('{postbus.bus,postbus.keys}'::regclass[])")
	}
	entries, whole := "tuples_returned(indexrelid)), 0)::int", "numscans(indrelid)), 0)::int"
	exec(t, conn, "BEGIN")
	read, scans = count(entries), count(whole) // of transactions that are not in the statistics yet
	if err := work(t.Context()); err != nil {
		t.Fatal(err)
	}
	read, scans = count(entries)-read, count(whole)-scans
	exec(t, conn, "COMMIT")
	return read, scans
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
		"a page among all": {pooled.Conn(), func(ctx context.Context, after int64) (int, error) {
			rows, err := db.New(pooled).ReadPageAmongAll(ctx, db.ReadPageAmongAllParams{Channels: []string{"loud"}, After: after, Until: 20000, Rows: 100, Bytes: 1 << 20, Looks: 200})
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
			read, scans := looked(t, s.conn, func(ctx context.Context) error {
				for after := range int64(20) {
					if n, err := s.read(ctx, after); n != 100 || err != nil {
						return fmt.Errorf("%s: %d rows, %w", name, n, err)
					}
				}
				return nil
			})
			if read > 20*400 || scans != 0 {
				t.Errorf("%s: read %d entries for 20 times 100 rows, went through the table %d times; analyzed %t", name, read, scans, analyzed)
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
		if read, _ := looked(t, c.conn, c.read); read > 50 { // planning looks at the ends of an index
			t.Errorf("%s: read %d entries of other channels", name, read)
		}
	}
}

// TestPageOfManyChannelsReadsLittleMoreThanItSends: to look for a whole page in each of them would read 50,000 entries where they are busy, and to
// look at the log alone 70,000 where they are not.
func TestPageOfManyChannelsReadsLittleMoreThanItSends(t *testing.T) {
	d, url := open(t)
	exec(t, connect(t, url), "INSERT INTO postbus.bus (channel, type, json) SELECT 'busy-' || i % 1000, '', '1' FROM generate_series(1, 100000) i",
		"ANALYZE postbus.bus")
	pooled, err := d.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Release()
	for name, sends := range map[string]int{"busy": 100, "quiet": 0} {
		req := dispatch.PageRequest{After: 30000, Until: 100000, Max: 100, MaxBytes: 1 << 20}
		for n := range 500 {
			req.Channels = append(req.Channels, fmt.Sprintf("%s-%d", name, n))
		}
		read, scans := looked(t, pooled.Conn(), func(ctx context.Context) error {
			page, err := (&DB{queries: db.New(pooled)}).ReadPage(ctx, req)
			if err == nil && (len(page.Notifications) != sends || sends == 0 && page.Scanned != req.Until) {
				err = fmt.Errorf("%d notifications, scanned %d", len(page.Notifications), page.Scanned)
			}
			return err
		})
		if read > 2000 || scans != 0 {
			t.Errorf("%s channels: read %d entries, %d tables for %d rows", name, read, scans, sends)
		}
	}
}

// TestRetentionLooksNoFurtherThanItMust: neither among what is there for longer nor among what is gone.
func TestRetentionLooksNoFurtherThanItMust(t *testing.T) {
	d, url := open(t)
	loud(t, url)
	conn := connect(t, url)
	// Rows below trimmed_to stand for the dead ones of an index that no vacuum has been at. The statistics know of messages and keys that had expired
	// and have been removed.
	exec(t, conn, "UPDATE postbus.state SET trimmed_to = 10000", "UPDATE postbus.bus SET sent_at = '-infinity' WHERE id <= 12000",
		"UPDATE postbus.bus SET expires_at = clock_timestamp() - interval '1 h' WHERE id > 12000",
		"INSERT INTO postbus.keys (channel, key, expires_at) SELECT 'loud', i, clock_timestamp() - interval '1 h' FROM generate_series(1, 20000) i",
		"ANALYZE postbus.bus", "ANALYZE postbus.keys",
		"UPDATE postbus.bus SET expires_at = clock_timestamp() + interval '1 h' WHERE id > 12000",
		"UPDATE postbus.keys SET expires_at = clock_timestamp() + interval '1 h'",
		"VACUUM postbus.bus", "VACUUM postbus.keys")
	pooled, err := d.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Release()
	q := db.New(pooled)
	overdue := func(want bool) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := q.Overdue(ctx, 3600)
			if err == nil && got != want {
				err = fmt.Errorf("overdue: %t, want %t", got, want)
			}
			return err
		}
	}
	if read, scans := looked(t, pooled.Conn(), overdue(true)); read > 10 || scans != 0 {
		t.Errorf("read %d entries, %d tables for what is overdue", read, scans)
	}
	read, scans := looked(t, pooled.Conn(), func(ctx context.Context) error {
		for range 2 {
			if oldest, err := q.TrimOldest(ctx, db.TrimOldestParams{Retention: 3600, Rows: 1000}); err != nil || oldest.Removed != 1000 {
				return fmt.Errorf("removed %d, %w", oldest.Removed, err)
			} else if err := q.SaveTrimmed(ctx, oldest.TrimmedTo); err != nil {
				return err
			}
		}
		expired, err := q.SweepExpired(ctx, 1000)
		keys, failed := q.SweepKeys(ctx, 1000)
		if expired+keys != 0 {
			return fmt.Errorf("%d messages and %d keys were removed before their time", expired, keys)
		}
		return errors.Join(err, failed)
	})
	if read > 9000 || scans != 0 {
		t.Errorf("read %d entries, %d tables for 2000 rows", read, scans)
	}
	if read, scans := looked(t, pooled.Conn(), overdue(false)); read > 10 || scans != 0 {
		t.Errorf("read %d entries, %d tables for what is not overdue", read, scans)
	}
	exec(t, conn, "UPDATE postbus.bus SET expires_at = clock_timestamp() WHERE id > 19990", "UPDATE postbus.keys SET expires_at = clock_timestamp() WHERE key = '7'")
	read, scans = looked(t, pooled.Conn(), func(ctx context.Context) error {
		expired, err := q.SweepExpired(ctx, 1000)
		keys, failed := q.SweepKeys(ctx, 1000)
		if expired != 10 || keys != 1 {
			return fmt.Errorf("%d messages and %d keys, want 10 and 1", expired, keys)
		}
		return errors.Join(err, failed)
	})
	if read > 100 || scans != 0 {
		t.Errorf("read %d entries, %d tables for what has expired", read, scans)
	}
}
