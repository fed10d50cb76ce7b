//go:build unix

package rig

import (
	"bytes"
	"context"
	"sync/atomic"
)

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
