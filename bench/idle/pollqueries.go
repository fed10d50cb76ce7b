//go:build unix

package idle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const polledChannel = "polled"

// PollQueries counts what a message on a channel with many long-polls asks of the database.
func PollQueries(ctx context.Context, b *rig.Bench) (err error) {
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	if err := r.LogStatements(ctx); err != nil {
		return err
	}
	n, err := r.StartNode(ctx, r.NodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	readers := 5_000
	if b.Quick {
		readers = 1_000
	}
	far, err := sink.Start(ctx, sink.Plan{Target: n.HTTPAddr, Over: sink.Polls, Readers: readers, Channel: polledChannel})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, far.End()) }()
	conn, err := rig.Dial(n.GRPCAddr)
	if err != nil {
		return err
	}
	defer conn.Close()
	bus := postbusv1.NewBusServiceClient(conn)
	const count = 10
	messages := func(ctx context.Context, send func(context.Context) error) (s compare.Sample, err error) {
		m, err := rig.NewMeter(r.Postmaster(), n.PID())
		if err != nil {
			return s, err
		}
		total := 0.0
		for range count {
			statements, err := statementsOf(ctx, r, n, readers, send)
			if err != nil {
				return s, err
			}
			total += statements
		}
		return m.Sample(total / count)
	}
	crowd, nobody := compare.Number(readers)+" long-polls", "nobody"
	e := compare.Experiment{
		Title: "A message for " + crowd,
		Text: fmt.Sprintf("%d messages, each sent when all polls wait and the node sleeps. All statements of the node are counted, in PostgreSQL's log, until the polls wait again and the node sleeps again: "+
			"those of the Send and of the tail are there without readers, too.", count),
		Columns: []string{"statements a message"},
		Variants: []compare.Variant{
			{Name: crowd, Run: func(ctx context.Context) (compare.Sample, error) {
				return messages(ctx, func(ctx context.Context) error {
					return far.Burst(ctx, 1, func(ctx context.Context) error { return rig.SendBurst(ctx, bus, polledChannel, 1) })
				})
			}},
			{Name: nobody, Run: func(ctx context.Context) (compare.Sample, error) {
				return messages(ctx, func(ctx context.Context) error { return rig.SendBurst(ctx, bus, "nobody", 1) })
			}},
		},
		Ratios: []compare.Ratio{{Name: "statements a message for the polls alone", Goal: "≤ 1", Of: func(figures map[string][]float64) float64 {
			return math.Max(0, compare.At(figures, crowd, 0)-compare.At(figures, nobody, 0))
		}}},
	}
	return e.Perform(ctx, b.Fewer(), b.Out)
}

// statementsOf returns how many statements the database is asked from the time that the
// polls wait and the node sleeps until they do so again.
func statementsOf(ctx context.Context, r *rig.Rig, n *rig.Node, polls int, send func(context.Context) error) (float64, error) {
	before, err := statementsAtRest(ctx, r, n, polls)
	if err != nil {
		return 0, err
	}
	if err := send(ctx); err != nil {
		return 0, err
	}
	after, err := statementsAtRest(ctx, r, n, polls)
	return float64(after - before), err
}

// statementsAtRest returns the count once the polls wait, the node sleeps, and the log,
// which comes by a pipe, says nothing new for a moment.
func statementsAtRest(ctx context.Context, r *rig.Rig, n *rig.Node, polls int) (count int64, err error) {
	const quiet = 100 * time.Millisecond
	for {
		err = n.Until(ctx, "with all polls waiting", func() bool {
			waiting, err := n.Metric(ctx, "postbus_polls")
			return err == nil && waiting >= float64(polls)
		})
		if err == nil {
			err = n.UntilAsleep(ctx)
		}
		if err != nil {
			return 0, err
		}
		if count, err = r.Statements(r.NodeURL); err != nil {
			return 0, err
		}
		select {
		case <-time.After(quiet):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if again, err := r.Statements(r.NodeURL); err != nil || again == count {
			return count, err
		}
	}
}
