package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// A tail is the connection on which the log is followed. One goroutine uses it.
type tail struct {
	conn    *pgx.Conn
	queries *db.Queries
	pooled  bool
	memory  *memory
	idle    bool // most of what the last Read has shown, nobody had asked for

	own   string // the channel that Check rings
	rang  bool   // the bell rang since the last Wait
	heard bool   // own rang since the last Check began
}

// OpenTail opens the connection, as dispatch.Store says.
func (d *DB) OpenTail(ctx context.Context, pos bus.ID) (dispatch.Tail, dispatch.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	t, err := d.connectTail(ctx)
	if err != nil {
		return nil, dispatch.Position{}, unavailable("connect", err)
	}
	start, err := t.begin(ctx, pos)
	if err != nil {
		t.Close()
		return nil, dispatch.Position{}, unavailable("begin", err)
	}
	// The pool follows the tail: its connections may lead to a server that is the primary no more.
	d.pool.Reset()
	if t.pooled && d.warned.CompareAndSwap(false, true) {
		d.opts.Logger.WarnContext(ctx, "the tail's connection leads through a transaction pooler: polling instead of listening; give --listen-url a direct one")
	}
	return t, start, nil
}

func (d *DB) connectTail(ctx context.Context) (*tail, error) {
	config, err := pgx.ParseConfig(d.opts.ListenURL)
	if err != nil {
		return nil, fmt.Errorf("listen URL: %w", err)
	}
	t := &tail{memory: &d.memory}
	configure(config)
	// Its first statements must work behind a pooler; sqlc's run as what DefaultQueryExecMode says by then.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { t.hear(n.Channel) }
	if t.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, err
	}
	if t.pooled, err = isPooled(ctx, t.conn); err != nil {
		t.Close()
		return nil, err
	}
	t.queries = db.New(t.conn)
	if !t.pooled {
		t.own = fmt.Sprintf("postbus_%d", t.conn.PgConn().PID())
		if err = setUp(ctx, t.conn, tailSettings); err != nil {
			t.Close()
			return nil, err
		}
		t.queries = db.New(prepared{t.conn})
	}
	return t, nil
}

// begin proves that the server is the primary and the history the recorded one, and begins to listen before it looks at
// the table.
func (t *tail) begin(ctx context.Context, pos bus.ID) (start dispatch.Position, err error) {
	last, err := t.queries.LastGiven(ctx)
	if err != nil {
		return start, err
	}
	if last.InRecovery {
		return start, errInRecovery
	}
	if err := t.queries.CheckHistory(ctx); err != nil {
		return start, fmt.Errorf("check the history: %w", err)
	}
	if err := t.memory.prove(ctx, t.queries, pos); err != nil {
		return start, err
	}
	if !t.pooled {
		// SaveFloor may lose its last commits, nothing else is written from here on.
		if err := setUp(ctx, t.conn, "SET synchronous_commit = off; LISTEN postbus; LISTEN "+t.own); err != nil {
			return start, err
		}
	}
	position, err := t.queries.Position(ctx)
	if err != nil {
		return start, err
	}
	histories, err := t.queries.Histories(ctx)
	if err != nil {
		return start, err
	}
	start = dispatch.Position{Floor: bus.ID(position.Floor), Head: bus.ID(position.Head), TrimmedTo: bus.ID(position.TrimmedTo)}
	for _, h := range histories {
		start.Histories = append(start.Histories, bus.Past{Survived: bus.ID(h.Survived), Until: bus.ID(h.FirstID - 1)})
	}
	return start, nil
}

// Holders names the transactions that may still commit ids, its own aside.
func (t *tail) Holders(ctx context.Context) ([]dispatch.Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := t.queries.Holders(ctx)
	if err != nil {
		return nil, unavailable("read the holders", err)
	}
	holders := make([]dispatch.Holder, len(rows))
	for i, r := range rows {
		holders[i] = dispatch.Holder{
			Transaction: r.Transaction, Recovered: strings.HasPrefix(r.Transaction, "-1/"), PID: r.Pid, GID: r.Gid,
		}
	}
	return holders, nil
}

// SaveFloor records that every id up to pos is settled.
func (t *tail) SaveFloor(ctx context.Context, pos bus.ID) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := t.queries.SaveFloor(ctx, int64(pos)); err != nil {
		return unavailable("save the floor", err)
	}
	return nil
}

// Close cuts the connection without a farewell: whatever it held is free when the server notices, which is at once.
func (t *tail) Close() {
	t.conn.PgConn().Conn().Close()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := t.conn.Close(ended); err != nil && !errors.Is(err, context.Canceled) {
		return // it is closed either way
	}
}

// prepared runs sqlc's statements as prepared ones on a connection whose default is not.
type prepared struct{ *pgx.Conn }

// Query is pgx's, with a prepared statement.
func (p prepared) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return p.Conn.Query(ctx, sql, append([]any{pgx.QueryExecModeCacheStatement}, args...)...)
}

// QueryRow is pgx's, with a prepared statement.
func (p prepared) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return p.Conn.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeCacheStatement}, args...)...)
}

// Exec is pgx's, with a prepared statement.
func (p prepared) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return p.Conn.Exec(ctx, sql, append([]any{pgx.QueryExecModeCacheStatement}, args...)...)
}
