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

const (
	// minBursts is how many bursts a run has at least, however long they take.
	minBursts = 3
)

// A shape is who reads, and over how many connections.
type shape struct{ readers, conns int }

// Streams measures what a delivery costs when many read the same channel, beside a bare
// grpc-go server that sends prepared bytes to the same streams.
func Streams(ctx context.Context, b *rig.Bench) (err error) {
	shapes := []shape{{100, 4}, {100, 100}, {1_000, 4}, {1_000, 1_000}, {10_000, 4}, {10_000, 10_000}}
	if b.Quick {
		shapes = shapes[2:4]
	}
	if err := rig.NeedFiles(shapes[len(shapes)-1].conns); err != nil {
		return err
	}
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	report := newStreamsReport(b.Out)
	for _, s := range shapes {
		if err := streamsShape(ctx, b, r, s, report); err != nil {
			return fmt.Errorf("%d readers on %d connections: %w", s.readers, s.conns, err)
		}
	}
	report.print()
	return nil
}

// streamsShape measures one shape: all servers and all streams are open all the time, and
// the variants take turns.
func streamsShape(ctx context.Context, b *rig.Bench, r *rig.Rig, of shape, report *streamsReport) (err error) {
	n, err := r.StartNode(ctx, r.NodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	peer, err := bare.StartStreams(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.End()) }()
	plan := sink.Plan{Conns: of.conns, Readers: of.readers, Channel: bare.Channel, Heartbeat: 50 * time.Second}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the node said %q, the bare server %q", err, n.Said(), peer.Said())
		}
	}()
	var sinks [2]*sink.Far
	for i, target := range []string{n.GRPCAddr, peer.Addr} {
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
	bus := postbusv1.NewBusServiceClient(conn)

	long, short := b.Pick(600*time.Millisecond, 250*time.Millisecond), b.Pick(200*time.Millisecond, 100*time.Millisecond)
	for _, size := range []int{1, 32} {
		toNode := func(channel string) func(context.Context) error {
			return func(ctx context.Context) error { return rig.SendBurst(ctx, bus, channel, size) }
		}
		toBare := func(way string) func(context.Context) error {
			return func(context.Context) error {
				return peer.Tell(way, size)
			}
		}
		// The warm-up of the node is as fast as it can; from then on all send at its pace.
		var pace time.Duration
		server, other := processes{n.PID(), r.Postmaster()}, processes{peer.PID(), 0}
		e := compare.Experiment{Title: fmt.Sprintf("fanout: %d readers, %d connections, %d at a time", of.readers, of.conns, size), Variants: []compare.Variant{
			{Name: throughNode, Run: func(ctx context.Context) (compare.Sample, error) {
				s, err := bursts(ctx, server, sinks[0], size, pace, long, toNode(bare.Channel))
				if err == nil && pace == 0 {
					pace = s.Wall * 5 / 4 / time.Duration(s.Figures[burstCount])
				}
				return s, err
			}},
			{Name: bareStrict, Run: func(ctx context.Context) (compare.Sample, error) {
				return bursts(ctx, other, sinks[1], size, pace, long, toBare(bare.Strict))
			}},
			{Name: barePlain, Run: func(ctx context.Context) (compare.Sample, error) {
				return bursts(ctx, other, sinks[1], size, pace, short, toBare(bare.Plain))
			}},
			{Name: sendsAlone, Run: func(ctx context.Context) (compare.Sample, error) {
				return bursts(ctx, server, nil, size, pace, short, toNode("nobody"))
			}},
		}}
		all, err := e.Measure(ctx, b.Fewer())
		if err != nil {
			return err
		}
		if err := report.add(of, size, all); err != nil {
			return err
		}
	}
	return nil
}

// What a sample of bursts has in its figures.
const (
	burstCount = iota
	burstDeliveries
	burstResponses
	burstSinkCPU // seconds
)

// bursts sends burst after burst, each when every reader of to has got the one before and
// not sooner than pace after it, until the server has spent so much CPU time. Without to
// nobody reads.
func bursts(ctx context.Context, of processes, to *sink.Far, size int, pace, budget time.Duration, send func(context.Context) error) (s compare.Sample, err error) {
	var responses float64
	var spent time.Duration
	if to != nil {
		if responses, err = to.Responses(); err != nil {
			return s, err
		}
		if spent, err = to.CPU(); err != nil {
			return s, err
		}
	}
	m, err := rig.NewMeter(of.postmaster, of.server)
	if err != nil {
		return s, err
	}
	count, deliveries := 0, 0
	begin := time.NewTimer(0)
	defer begin.Stop()
	for ; ; count++ {
		if done, err := enough(m, budget); err != nil {
			return s, err
		} else if done && count >= minBursts {
			break
		}
		select {
		case <-begin.C:
		case <-ctx.Done():
			return s, ctx.Err()
		}
		begin.Reset(pace)
		if to == nil {
			err = send(ctx)
		} else {
			deliveries += size * to.Plan.Readers
			err = to.Burst(ctx, size, send)
		}
		if err != nil {
			return s, fmt.Errorf("burst %d: %w", count+1, err)
		}
	}
	if s, err = m.Sample(float64(count), float64(deliveries), 0, 0); err != nil || to == nil {
		return s, err
	}
	spentAfter, err := to.CPU()
	if err != nil {
		return s, err
	}
	responsesAfter, err := to.Responses()
	if err != nil {
		return s, err
	}
	s.Figures[burstResponses], s.Figures[burstSinkCPU] = responsesAfter-responses, (spentAfter - spent).Seconds()
	return s, to.Check()
}

// processes are those whose CPU time is measured; postmaster 0: there is none.
type processes struct{ server, postmaster int }

// enough reports whether the server has spent its budget since m began, or the time is over
// in which a calm machine would have got there.
func enough(m *rig.Meter, budget time.Duration) (bool, error) {
	const calm = 3 // as much wall time
	if time.Since(m.Began) >= calm*budget {
		return true, nil
	}
	spent, err := m.ServerTime()
	return spent >= budget, err
}
