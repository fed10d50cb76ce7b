//go:build unix

package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Database makes one more database with the schema and returns its URL.
func (r *Rig) Database(ctx context.Context, name string) (string, error) {
	if err := r.exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	url := r.postgres.DatabaseURL(name)
	return url, r.migrate(ctx, url)
}

// migrate installs the schema.
func (r *Rig) migrate(ctx context.Context, url string) error {
	cmd := exec.CommandContext(ctx, r.program, "migrate")
	cmd.Env = append(os.Environ(), "POSTBUS_DATABASE_URL="+url)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("postbus migrate: %w: %s", err, text)
	}
	return nil
}

// Fill puts so many messages of 200 bytes into a database that no node follows, in turn
// to the channels channel-0, channel-1 and so on.
func Fill(ctx context.Context, url string, rows, channels int) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const insert = "INSERT INTO postbus.bus (channel, type, json) SELECT 'channel-' || i % $2, '', $3 FROM generate_series(0, $1::bigint - 1) AS i"
	if _, err := conn.Exec(ctx, insert, rows, channels, Payload()); err != nil {
		return fmt.Errorf("insert %d rows: %w", rows, err)
	}
	for _, each := range []string{
		"UPDATE postbus.state SET floor = (SELECT max(id) FROM postbus.bus)", // a node begins behind them
		"VACUUM ANALYZE postbus.bus",
	} {
		if _, err := conn.Exec(ctx, each); err != nil {
			return fmt.Errorf("%s: %w", each, err)
		}
	}
	return nil
}

// Transactions returns how many transactions have ended in a database. Each of a node's
// statements is one, but for the few that retention does in one.
func (r *Rig) Transactions(ctx context.Context, database string) (count float64, err error) {
	conn, err := pgx.Connect(ctx, r.NodeURL)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname = $1", database).Scan(&count)
	return count, err
}

// LogStatements makes statements count from now on.
func (r *Rig) LogStatements(ctx context.Context) error {
	return r.exec(ctx, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
}

// Statements returns how many statements PostgreSQL has been asked. Its log comes by a
// pipe, a moment later.
func (r *Rig) Statements() int64 { return r.log.count.Load() }

// A statementLog counts the statements in PostgreSQL's log and keeps nothing else. There
// are some once log_statement is all.
type statementLog struct {
	count atomic.Int64
	rest  []byte // the line that is not complete yet; used by Write only
}

// Write is called by one goroutine at a time and never fails.
func (l *statementLog) Write(text []byte) (int, error) {
	const lineLimit = 64 << 10
	for line := range bytes.Lines(text) {
		l.rest = append(l.rest, line[:min(len(line), lineLimit-len(l.rest))]...)
		if line[len(line)-1] != '\n' {
			break
		}
		if bytes.Contains(l.rest, []byte("LOG:  statement: ")) || bytes.Contains(l.rest, []byte("LOG:  execute ")) {
			l.count.Add(1)
		}
		l.rest = l.rest[:0]
	}
	return len(text), nil
}
