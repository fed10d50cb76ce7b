//go:build unix

package fanout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/bench/internal/bare"
	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// The variants of httpfanout, beside throughNode and sendsAlone.
const (
	bareServed = "bare"
	bareAgain  = "bare, again"
)

// Web measures what a delivery costs when many read the same channel by HTTP, each
// on a connection of its own, beside a bare server that writes the same bytes.
func Web(ctx context.Context, b *rig.Bench, over string) (err error) {
	counts := []int{1_000, 5_000}
	if b.Quick {
		counts = counts[:1]
	}
	if err := rig.NeedFiles(counts[len(counts)-1]); err != nil {
		return err
	}
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	report := newWebReport(b.Out, over)
	for _, readers := range counts {
		if err := webShape(ctx, b, r, readers, report); err != nil {
			return fmt.Errorf("%d readers: %w", readers, err)
		}
	}
	report.print()
	return nil
}

// webShape measures so many readers: both servers and all readers are open all the time,
// and the variants take turns.
func webShape(ctx context.Context, b *rig.Bench, r *rig.Rig, readers int, report *webReport) (err error) {
	n, err := r.StartNode(ctx, r.NodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	peer, err := bare.StartWeb(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.End()) }()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the node said %q, the bare server %q", err, n.Said(), peer.Said())
		}
	}()
	var sinks [2]*sink.Far
	for i, target := range []string{n.HTTPAddr, peer.Addr} {
		plan := sink.Plan{Target: target, Over: report.over, Readers: readers, Channel: bare.Channel, Heartbeat: 50 * time.Second}
		if sinks[i], err = sink.Start(ctx, plan); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sinks[i].End()) }()
	}
	conn, err := rig.Dial(n.GRPCAddr)
	if err != nil {
		return err
	}
	defer conn.Close()
	bus := postbusv1.NewBusServiceClient(conn)
	way := bare.Strict
	if report.over == sink.Polls {
		way = bare.Parked
	}
	long, short := b.Pick(600*time.Millisecond, 250*time.Millisecond), b.Pick(200*time.Millisecond, 100*time.Millisecond)
	for _, size := range []int{1, 32} {
		toNode := func(channel string) func(context.Context) error {
			return func(ctx context.Context) error { return rig.SendBurst(ctx, bus, channel, size) }
		}
		toBare := func(context.Context) error { return peer.Tell(way, size) }
		// The warm-up of the node is as fast as it can; from then on all send at its pace.
		var pace time.Duration
		server, other := processes{n.PID(), r.Postmaster()}, processes{peer.PID(), 0}
		again := func(ctx context.Context) (compare.Sample, error) {
			return bursts(ctx, other, sinks[1], size, pace, long, toBare)
		}
		e := compare.Experiment{Title: fmt.Sprintf("%s: %d readers, %d at a time", report.over, readers, size), Variants: []compare.Variant{
			{Name: throughNode, Run: func(ctx context.Context) (compare.Sample, error) {
				s, err := bursts(ctx, server, sinks[0], size, pace, long, toNode(bare.Channel))
				if err == nil && pace == 0 {
					pace = s.Wall * 5 / 4 / time.Duration(s.Figures[burstCount])
				}
				return s, err
			}},
			{Name: bareServed, Run: again},
			{Name: bareAgain, Run: again},
			{Name: sendsAlone, Run: func(ctx context.Context) (compare.Sample, error) {
				return bursts(ctx, server, nil, size, pace, short, toNode("nobody"))
			}},
		}}
		all, err := e.Measure(ctx, b.Fewer())
		if err != nil {
			return err
		}
		if err := report.add(readers, size, all); err != nil {
			return err
		}
	}
	return nil
}
