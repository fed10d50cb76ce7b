//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// idle measures what a node costs that nobody uses.
func (b *bench) idle(ctx context.Context) (err error) {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	if err := r.exec(ctx, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	length := b.pick(30*time.Second, 5*time.Second)
	const node, alone = "postbus serve", "PostgreSQL alone"
	e := experiment{
		title: "An idle node",
		text:  fmt.Sprintf("No senders, no readers, for %s. All statements of the node are counted, in PostgreSQL's log. PostgreSQL alone has no node at all.", length),
		columns: []string{
			"statements/s", "node: % of a core", "database: % of a core",
		},
		variants: []variant{
			{node, "≤ 2/s, ≤ 1 %", func(ctx context.Context) (s sample, err error) {
				n, err := startNode(ctx, b.program, r.nodeURL)
				if err != nil {
					return s, err
				}
				defer func() { err = errors.Join(err, n.end()) }()
				if err := n.untilAsleep(ctx); err != nil {
					return s, err
				}
				return r.still(ctx, length, n.process.pid())
			}},
			{alone, "", func(ctx context.Context) (sample, error) { return r.still(ctx, length, 0) }},
		},
	}
	return e.perform(ctx, b.reps, b.out)
}

// still does nothing for length and measures what happens all the same.
func (r *rig) still(ctx context.Context, length time.Duration, server int) (sample, error) {
	m, err := newMeter(server, r.postgres.PID())
	if err != nil {
		return sample{}, err
	}
	before := r.statements.count.Load()
	select {
	case <-time.After(length):
	case <-ctx.Done():
		return sample{}, ctx.Err()
	}
	statements := r.statements.count.Load() - before
	s, err := m.sample()
	wall := s.wall.Seconds()
	s.figures = []float64{
		float64(statements) / wall,
		100 * s.cpu.server.Seconds() / wall,
		100 * s.cpu.database.Seconds() / wall,
	}
	return s, err
}
