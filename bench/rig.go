//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded"
)

// A rig is a private PostgreSQL with three databases that have the same schema: a node
// works on one, two nodes on another, and the third, that nobody follows, is for what they
// are compared with.
type rig struct {
	program    string
	postgres   *embedded.Server
	statements *statementLog
	nodeURL    string
	pairURL    string
	plainURL   string
}

// newRig starts a PostgreSQL. Checkpoints are as rare as settings can make them: one that
// falls into one variant and not into another would be measured, too.
func newRig(ctx context.Context, b *bench) (*rig, error) {
	r := &rig{program: b.program, statements: &statementLog{}}
	var err error
	r.postgres, err = embedded.Start(ctx, embedded.Options{
		Ephemeral: true,
		Log:       r.statements,
		Settings: map[string]string{
			"fsync":              "on",
			"synchronous_commit": "on",
			"checkpoint_timeout": "1h",
			"max_wal_size":       "16GB",
			"max_connections":    "400", // 256 sessions that write, and the nodes
		},
	})
	if err != nil {
		return nil, err
	}
	r.nodeURL, r.pairURL, r.plainURL = r.postgres.URL(), r.postgres.DatabaseURL("pair"), r.postgres.DatabaseURL("plain")
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(err, r.end(ctx))
	}
	return r, nil
}

// prepare makes the other databases and installs the schema in all.
func (r *rig) prepare(ctx context.Context) error {
	if err := r.exec(ctx, "CREATE DATABASE pair", "CREATE DATABASE plain"); err != nil {
		return err
	}
	for _, address := range []string{r.nodeURL, r.pairURL, r.plainURL} {
		cmd := exec.CommandContext(ctx, r.program, "migrate")
		cmd.Env = append(os.Environ(), "POSTBUS_DATABASE_URL="+address)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("postbus migrate: %w: %s", err, text)
		}
	}
	return nil
}

// exec runs each statement by itself, in the node's database.
func (r *rig) exec(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, r.nodeURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, each := range statements {
		if _, err := conn.Exec(ctx, each); err != nil {
			return fmt.Errorf("%s: %w", each, err)
		}
	}
	return nil
}

// end stops the server and removes its data, also when ctx has ended.
func (r *rig) end(ctx context.Context) error {
	return r.postgres.Stop(context.WithoutCancel(ctx))
}

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
