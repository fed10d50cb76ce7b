//go:build unix

// Package readers measures what readers do to each other: one that stalls among a thousand,
// and crowds of ten thousand.
package readers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const (
	crowdReaders = 10_000
	crowdConns   = 100 // over which they are spread
	crowdBatch   = 32  // messages at a time
	crowdChannel = "shared"
	crowdReps    = 2 // at the most: each with a new node
)

// Run measures slow readers and crowds of readers.
func Run(ctx context.Context, b *rig.Bench) (err error) {
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	if err := slowReader(ctx, b, r); err != nil {
		return fmt.Errorf("a stalled reader: %w", err)
	}
	return crowds(ctx, b, r)
}

// crowds measures 10,000 readers of one channel, and as many on a hundredth of a million.
func crowds(ctx context.Context, b *rig.Bench, r *rig.Rig) error {
	channels := 1_000_000
	if b.Quick {
		channels = 100_000
	}
	filled, err := r.Database(ctx, "filled")
	if err != nil {
		return err
	}
	if err := rig.Fill(ctx, filled, channels, channels); err != nil {
		return err
	}
	const one = "of one channel"
	scattered := fmt.Sprintf("each of its own of %s channels", compare.Number(channels))
	e := compare.Experiment{
		Title: compare.Number(crowdReaders) + " readers",
		Text: fmt.Sprintf("Over %d connections. Of one channel: %d messages at a time, and every reader has got each once. Of many: every channel has a row, "+
			"%d messages at a time go to as many channels drawn at random, and half of them to channels that are read; all of those came. "+
			"The node is new each time; memory is resident, after a forced collection, before the first message and behind the last.", crowdConns, crowdBatch, crowdBatch),
		Columns: []string{"µs of CPU a delivery", "µs of CPU a message sent", "deliveries/s", "MB before", "MB after"},
		Variants: []compare.Variant{
			{Name: one, Run: func(ctx context.Context) (compare.Sample, error) {
				return crowd(ctx, b, r, r.NodeURL, crowdChannel, 0)
			}},
			{Name: scattered, Run: func(ctx context.Context) (compare.Sample, error) {
				return crowd(ctx, b, r, filled, "channel-%d", channels)
			}},
		},
	}
	return e.Perform(ctx, min(b.Reps, crowdReps), b.Out)
}

// crowd measures readers of channel on a new node. channels says how many there are, each
// with a row in the database; 0: one.
func crowd(ctx context.Context, b *rig.Bench, r *rig.Rig, url, channel string, channels int) (s compare.Sample, err error) {
	n, err := r.StartNode(ctx, url)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	conn, err := rig.Dial(n.GRPCAddr)
	if err != nil {
		return s, err
	}
	defer conn.Close()
	bus := postbusv1.NewBusServiceClient(conn)
	far, err := sink.Start(ctx, sink.Plan{Target: n.GRPCAddr, Conns: crowdConns, Readers: crowdReaders, Channel: channel})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, far.End()) }()
	before, err := n.Resident(ctx)
	if err != nil {
		return s, err
	}
	m, err := rig.NewMeter(r.Postmaster(), n.PID())
	if err != nil {
		return s, err
	}
	delivered, sent := far.Delivered, 0
	for length := b.Pick(3*time.Second, time.Second); time.Since(m.Began) < length; sent += crowdBatch {
		if channels > 0 {
			err = far.Scatter(ctx, bus, crowdBatch, func() int {
				if rand.IntN(2) == 0 {
					return rand.IntN(crowdReaders)
				}
				return rand.IntN(channels)
			})
		} else {
			err = far.Burst(ctx, crowdBatch, func(ctx context.Context) error { return rig.SendBurst(ctx, bus, channel, crowdBatch) })
		}
		if err != nil {
			return s, err
		}
	}
	if s, err = m.Sample(); err != nil {
		return s, err
	}
	if channels == 0 {
		err = far.Check()
	} else {
		err = far.Each(ctx, bus)
	}
	if err != nil {
		return s, err
	}
	delivered = far.Delivered - delivered
	after, err := n.Resident(ctx)
	cpu := s.CPU.Server.Seconds() * 1e6
	s.Figures = []float64{cpu / float64(delivered), cpu / float64(sent), float64(delivered) / s.Wall.Seconds(), before / 1e6, after / 1e6}
	return s, err
}
