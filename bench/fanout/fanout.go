//go:build unix

// Package fanout measures what a delivery costs when many read the same channel, beside a bare
// server that sends the same bytes to as many readers.
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

// A transport is what differs between the ways to read.
type transport struct {
	over   string // of the sinks; "": gRPC
	node   func(*rig.Node) string
	bare   func(context.Context) (*rig.Part, error)
	bares  [2]bareWay // the goal is for the first
	shapes []shape
	report
}

// A bareWay is a way in which the bare server is measured.
type bareWay struct {
	name, short string // of the variant, and in the columns
	way         string
	brief       bool // it is not what the goal is for
}

// A shape is who reads, and over how many connections; 0: each has one.
type shape struct{ readers, conns int }

func (s shape) String() string {
	if s.conns == 0 {
		return fmt.Sprintf("%d readers", s.readers)
	}
	return fmt.Sprintf("%d readers on %d connections", s.readers, s.conns)
}

// Streams measures streams of gRPC.
func Streams(ctx context.Context, b *rig.Bench) error {
	t := streams()
	if b.Quick {
		t.shapes = t.shapes[2:4]
	}
	return t.run(ctx, b)
}

// Web measures HTTP, over one of the sink's transports, each reader on a connection of its
// own. The bare server is compared with itself, too.
func Web(ctx context.Context, b *rig.Bench, over string) error {
	t := web(over)
	if b.Quick {
		t.shapes = t.shapes[:1]
	}
	return t.run(ctx, b)
}

func streams() *transport {
	t := &transport{
		node: func(n *rig.Node) string { return n.GRPCAddr },
		bare: bare.StartStreams,
		bares: [2]bareWay{
			{name: "bare, strict", short: "strict", way: bare.Strict},
			{name: "bare, plain", short: "plain", way: bare.Plain, brief: true},
		},
		shapes: []shape{{100, 4}, {100, 100}, {1_000, 4}, {1_000, 1_000}, {10_000, 4}, {10_000, 10_000}},
	}
	t.report = streamsReport(t.bares)
	return t
}

func web(over string) *transport {
	way := bare.Strict
	if over == sink.Polls {
		way = bare.Parked
	}
	t := &transport{
		over: over,
		node: func(n *rig.Node) string { return n.HTTPAddr },
		bare: bare.StartWeb,
		bares: [2]bareWay{
			{name: "bare", short: "bare", way: way},
			{name: "bare, again", short: "bare, again", way: way},
		},
		shapes: []shape{{readers: 1_000}, {readers: 5_000}},
	}
	t.report = webReport(over, t.bares)
	return t
}

func (t *transport) run(ctx context.Context, b *rig.Bench) (err error) {
	last := t.shapes[len(t.shapes)-1]
	if err := rig.NeedFiles(max(last.conns, last.readers)); err != nil {
		return err
	}
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	for _, s := range t.shapes {
		if err := t.measure(ctx, b, r, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	t.print(b.Out)
	return nil
}

// measure measures one shape: both servers and all readers are open all the time, and the
// variants take turns.
func (t *transport) measure(ctx context.Context, b *rig.Bench, r *rig.Rig, of shape) (err error) {
	n, err := r.StartNode(ctx, r.NodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	peer, err := t.bare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.End()) }()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the node said %q, the bare server %q", err, n.Said(), peer.Said())
		}
	}()
	plan := sink.Plan{Over: t.over, Conns: of.conns, Readers: of.readers, Channel: bare.Channel, Heartbeat: 50 * time.Second}
	var sinks [2]*sink.Far
	for i, target := range []string{t.node(n), peer.Addr} {
		plan.Target = target
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
	node := &target{server: n.PID(), postmaster: r.Postmaster(), sink: sinks[0]}
	node.send = sendTo(postbusv1.NewBusServiceClient(conn), bare.Channel)
	nobody := &target{server: n.PID(), postmaster: r.Postmaster()}
	nobody.send = sendTo(postbusv1.NewBusServiceClient(conn), "nobody")
	for _, size := range []int{1, 32} {
		all, err := t.turns(ctx, b, of, size, node, nobody, func(way string) *target {
			return &target{server: peer.PID(), sink: sinks[1], send: func(_ context.Context, size int) error { return peer.Tell(way, size) }}
		})
		if err != nil {
			return err
		}
		if err := t.add(b.Out, of, size, all); err != nil {
			return err
		}
	}
	return nil
}

func sendTo(bus postbusv1.BusServiceClient, channel string) func(ctx context.Context, size int) error {
	return func(ctx context.Context, size int) error { return rig.SendBurst(ctx, bus, channel, size) }
}

// turns measures bursts of one size. The warm-up of the node is as fast as it can; from then
// on all send at its pace.
func (t *transport) turns(ctx context.Context, b *rig.Bench, of shape, size int, node, nobody *target, peer func(way string) *target) (compare.Runs, error) {
	long, short := b.Pick(600*time.Millisecond, 250*time.Millisecond), b.Pick(200*time.Millisecond, 100*time.Millisecond)
	var pace time.Duration
	e := compare.Experiment{
		Title: fmt.Sprintf("fan-out %s: %s, %d at a time", t.over, of, size),
		Variants: []compare.Variant{{Name: throughNode, Run: func(ctx context.Context) (compare.Sample, error) {
			s, err := node.bursts(ctx, size, pace, long)
			if err == nil && pace == 0 {
				pace = s.Wall * 5 / 4 / time.Duration(s.Figures[burstCount])
			}
			return s, err
		}}},
	}
	for _, each := range t.bares {
		length, server := long, peer(each.way)
		if each.brief {
			length = short
		}
		e.Variants = append(e.Variants, compare.Variant{Name: each.name, Run: func(ctx context.Context) (compare.Sample, error) {
			return server.bursts(ctx, size, pace, length)
		}})
	}
	e.Variants = append(e.Variants, compare.Variant{Name: sendsAlone, Run: func(ctx context.Context) (compare.Sample, error) {
		return nobody.bursts(ctx, size, pace, short)
	}})
	return e.Measure(ctx, b.Fewer())
}
