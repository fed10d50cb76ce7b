//go:build unix

package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"

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

// LogStatements makes statements count from now on.
func (r *Rig) LogStatements(ctx context.Context) error {
	return r.exec(ctx, "ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_line_prefix = '%d '", "SELECT pg_reload_conf()")
}

// Statements returns how many statements the database at url has been asked. PostgreSQL's log
// comes by a pipe, a moment later.
func (r *Rig) Statements(url string) (int64, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return 0, err
	}
	return r.log.of(config.Database), nil
}

// A statementLog counts the statements in PostgreSQL's log and keeps nothing else. There
// are some once LogStatements has been called.
type statementLog struct {
	rest []byte // the line that is not complete yet; used by Write only

	mu     sync.Mutex // guards counts
	counts map[string]int64
}

func (l *statementLog) of(database string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[database]
}

// Write is called by one goroutine at a time and never fails.
func (l *statementLog) Write(text []byte) (int, error) {
	const lineLimit = 64 << 10
	for line := range bytes.Lines(text) {
		l.rest = append(l.rest, line[:min(len(line), lineLimit-len(l.rest))]...)
		if line[len(line)-1] != '\n' {
			break
		}
		database, said, _ := bytes.Cut(l.rest, []byte(" "))
		if bytes.HasPrefix(said, []byte("LOG:  statement: ")) || bytes.HasPrefix(said, []byte("LOG:  execute ")) {
			l.mu.Lock()
			l.counts[string(database)]++
			l.mu.Unlock()
		}
		l.rest = l.rest[:0]
	}
	return len(text), nil
}
