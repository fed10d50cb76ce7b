package robust

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/tests/robust/history"
)

// notes keeps what is inserted into the bus, in the same transaction, so that it is known
// when retention has taken it. It refuses poison as a constraint would: that is how a
// database refuses the data of one message. And it takes its time, up to so many
// milliseconds, as another trigger might: between an INSERT and its COMMIT much can happen.
const notes = `
CREATE SCHEMA robust;
CREATE TABLE robust.notes (id bigint PRIMARY KEY, transaction text NOT NULL, channel text, type text, json text, bin bytea, headers jsonb, expires_at timestamptz);
CREATE FUNCTION robust.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF starts_with(NEW.type, 'poison-') THEN
		RAISE EXCEPTION 'poison' USING ERRCODE = 'data_exception';
	END IF;
	INSERT INTO robust.notes VALUES (NEW.id, pg_current_xact_id()::text, NEW.channel, NEW.type, NEW.json, NEW.bin, NEW.headers, NEW.expires_at);
	PERFORM pg_sleep(random() * %d / 1000);
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT ON postbus.bus FOR EACH ROW EXECUTE FUNCTION robust.note();
ALTER TABLE postbus.bus ENABLE ALWAYS TRIGGER note`

// endPrepared rolls back what senders could not end. They have all ended.
func (r *run) endPrepared(ctx context.Context) error {
	return r.query(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT gid FROM pg_prepared_xacts")
		if err != nil {
			return err
		}
		gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, gid := range gids {
			if _, err := conn.Exec(ctx, "ROLLBACK PREPARED '"+gid+"'"); err != nil {
				return fmt.Errorf("%s: %w", gid, err)
			}
		}
		return nil
	})
}

// settleTruth waits until no transaction can change the truth any more.
func (r *run) settleTruth(ctx context.Context) error {
	for {
		if err := r.endPrepared(ctx); err != nil {
			return err
		}
		open := 0
		err := r.query(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
				WHERE l.relation IN ('postbus.bus'::regclass, 'postbus.outbox'::regclass) AND l.mode = 'RowExclusiveLock'`).Scan(&open)
		})
		if err != nil || open == 0 {
			return err
		}
		if !rest(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%d transactions are still open", open)
		}
	}
}

// truth reads what the database holds.
func (r *run) truth(ctx context.Context) (found history.Truth, err error) {
	err = r.query(ctx, func(conn *pgx.Conn) error {
		found.At = r.record.Now()
		if err := conn.QueryRow(ctx, "SELECT trimmed_to FROM postbus.state").Scan(&found.TrimmedTo); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, `SELECT n.id, n.transaction, n.channel, n.type, n.json, n.bin, n.headers, n.expires_at, b.id IS NOT NULL
			FROM robust.notes n FULL JOIN postbus.bus b USING (id) ORDER BY id`)
		if err != nil {
			return err
		}
		found.Rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (history.Row, error) { return r.row(row) })
		return err
	})
	return found, err
}

func (r *run) row(from pgx.CollectableRow) (kept history.Row, err error) {
	var (
		json    *string
		bin     []byte
		headers []byte
		expires *time.Time
	)
	err = from.Scan(&kept.ID, &kept.Transaction, &kept.Channel, &kept.Token, &json, &bin, &headers, &expires, &kept.Present)
	if err != nil {
		return kept, err
	}
	named, err := headersOf(headers)
	if err != nil {
		return kept, err
	}
	if json != nil {
		kept.Sum = history.Sum(false, []byte(*json), named)
	} else {
		kept.Sum = history.Sum(true, bin, named)
	}
	if expires != nil {
		kept.Expires = r.record.At(*expires)
	}
	return kept, nil
}

func headersOf(text []byte) (headers map[string]string, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	err = json.Unmarshal(text, &headers)
	return headers, err
}
