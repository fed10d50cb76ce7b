//go:build unix

// Package idle measures what is there while nothing happens: a node that nobody uses, streams
// and readers that wait, and what one message asks of the database for polls that wait.
package idle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
)

// Node measures what a node costs that nobody uses.
func Node(ctx context.Context, b *rig.Bench) (err error) {
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	if err := r.LogStatements(ctx); err != nil {
		return err
	}
	length := b.Pick(30*time.Second, 5*time.Second)
	const node, alone = "postbus serve", "PostgreSQL alone"
	e := compare.Experiment{
		Title: "An idle node",
		Text:  fmt.Sprintf("No senders, no readers, for %s. All statements of the node are counted, in PostgreSQL's log. PostgreSQL alone has no node at all.", length),
		Columns: []string{
			"statements/s", "node: % of a core", "database: % of a core",
		},
		Variants: []compare.Variant{
			{Name: node, Goal: "≤ 2/s, ≤ 1 %", Run: func(ctx context.Context) (s compare.Sample, err error) {
				n, err := r.StartNode(ctx, r.NodeURL)
				if err != nil {
					return s, err
				}
				defer func() { err = errors.Join(err, n.End()) }()
				if err := n.UntilAsleep(ctx); err != nil {
					return s, err
				}
				return still(ctx, r, length, n.PID())
			}},
			{Name: alone, Run: func(ctx context.Context) (compare.Sample, error) { return still(ctx, r, length) }},
		},
	}
	return e.Perform(ctx, b.Reps, b.Out)
}

// still does nothing for length and measures what happens all the same.
func still(ctx context.Context, r *rig.Rig, length time.Duration, servers ...int) (compare.Sample, error) {
	m, err := rig.NewMeter(r.Postmaster(), servers...)
	if err != nil {
		return compare.Sample{}, err
	}
	before, err := r.Statements(r.NodeURL)
	if err != nil {
		return compare.Sample{}, err
	}
	select {
	case <-time.After(length):
	case <-ctx.Done():
		return compare.Sample{}, ctx.Err()
	}
	after, err := r.Statements(r.NodeURL)
	if err != nil {
		return compare.Sample{}, err
	}
	s, err := m.Sample()
	wall := s.Wall.Seconds()
	s.Figures = []float64{
		float64(after-before) / wall,
		100 * s.CPU.Server.Seconds() / wall,
		100 * s.CPU.Database.Seconds() / wall,
	}
	return s, err
}
