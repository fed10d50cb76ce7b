//go:build unix

package readers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const (
	briskReaders = 1_000
	briskConns   = 10
	slowPace     = 200 // messages of 1 KB a second

	// slowWindow is the node's window: what comes in a few seconds, so that the reader
	// that stalls falls behind it.
	slowWindow = 1 << 20

	slowReps    = 5
	slowChannel = "slow"
)

// A slowScene is a node with many readers on few connections and one, on a connection of
// its own, that may stall. All have the flow control windows that gRPC's clients begin with.
type slowScene struct {
	rig.Ending
	node        *rig.Node
	bus         postbusv1.BusServiceClient
	brisk, slow *sink.Sink
	sent        int64
	phase       atomic.Pointer[phase] // where the brisk readers' arrivals are recorded
	caught      chan struct{}         // one slot: the slow reader has what it was waited for
}

// slowReader measures whether a reader that stalls is felt by the others.
func slowReader(ctx context.Context, b *rig.Bench, r *rig.Rig) (err error) {
	s, err := openSlowScene(ctx, b, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.End()) }()
	if _, err := s.run(ctx, r, false, 2*time.Second); err != nil { // warm-up
		return err
	}
	const without, with = "all read", "one stalls"
	length := b.Pick(10*time.Second, 8*time.Second)
	run := func(stalled bool, length time.Duration) func(context.Context) (compare.Sample, error) {
		return func(ctx context.Context) (compare.Sample, error) { return s.run(ctx, r, stalled, length) }
	}
	e := compare.Experiment{
		Title: "A stalled reader among 1,000",
		Text: fmt.Sprintf("%s streams on %d connections, and one more on its own that gives no flow control window back while it stalls; %d messages of 1 KB a second at random moments, "+
			"for %s; latency from the moment a message was due to its arrival. The node's window has %s bytes, so that the stalled reader falls behind it. "+
			"Goal: a p99 within the spread of that when all read. Memory: resident, after a forced collection, while it still stalls. Then it reads on: it has got each message once, in order, on the same stream.",
			compare.Number(briskReaders), briskConns, slowPace, length, compare.Number(slowWindow)),
		Columns:  []string{"p50 ms", "p99 ms", "p99.9 ms", "node MB", "messages behind", "pages read", "s to catch up"},
		Variants: []compare.Variant{{Name: without, Run: run(false, length)}, {Name: with, Run: run(true, length)}},
		Ratios:   []compare.Ratio{{Name: "p99, one stalls / all read", Of: compare.Divide(with, without, 1)}},
	}
	if err := e.Perform(ctx, min(b.Reps, slowReps), b.Out); err != nil || b.Quick {
		return err
	}
	e.Title, e.Text, e.Ratios = "One that stalls for a minute", "The same once more.", nil
	e.Variants = []compare.Variant{{Name: with, Run: nil}}
	minute, err := s.run(ctx, r, true, time.Minute)
	if err != nil {
		return err
	}
	return e.Report(b.Out, compare.Runs{with: {minute}})
}

// openSlowScene starts the node and opens all streams.
func openSlowScene(ctx context.Context, b *rig.Bench, r *rig.Rig) (s *slowScene, err error) {
	s = &slowScene{caught: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.End())
		}
	}()
	n, err := r.StartNode(ctx, r.NodeURL, fmt.Sprintf("POSTBUS_WINDOW_BYTES=%d", slowWindow))
	if err != nil {
		return s, err
	}
	s.node = n
	s.Add(n.End)
	conn, err := rig.Dial(n.GRPCAddr)
	if err != nil {
		return s, err
	}
	s.Add(conn.Close)
	s.bus = postbusv1.NewBusServiceClient(conn)
	plan := sink.Plan{Target: n.GRPCAddr, Conns: briskConns, Readers: briskReaders, Channel: slowChannel, Window: sink.FirstWindow}
	s.brisk, err = sink.Open(ctx, plan, s.arrived, func() {})
	if err != nil {
		return s, err
	}
	s.Add(s.brisk.Close)
	plan.Conns, plan.Readers = 1, 1
	s.slow, err = sink.Open(ctx, plan, nil, func() { s.caught <- struct{}{} })
	if err == nil {
		s.Add(s.slow.Close)
	}
	return s, err
}

// arrived records what has come to one of the brisk readers.
func (s *slowScene) arrived(reader, notifications int) {
	p := s.phase.Load()
	p.record(s.brisk.Count(reader)-int64(notifications), notifications)
}

// run sends for length, while the slow reader reads or not, and then lets it catch up.
func (s *slowScene) run(ctx context.Context, r *rig.Rig, stalled bool, length time.Duration) (compare.Sample, error) {
	m, err := rig.NewMeter(r.Postmaster(), s.node.PID())
	if err != nil {
		return compare.Sample{}, err
	}
	p := newPhase(s.sent, length)
	s.phase.Store(p)
	if err := s.slow.Stall(stalled); err != nil {
		return compare.Sample{}, err
	}
	if err := p.send(ctx, s.bus); err != nil {
		return compare.Sample{}, err
	}
	s.sent += int64(len(p.due))
	if err := s.await(ctx, p.done); err != nil {
		return compare.Sample{}, fmt.Errorf("the brisk readers: %w", err)
	}
	result, err := m.Sample()
	if err != nil {
		return result, err
	}
	memory, err := s.node.Resident(ctx)
	if err != nil {
		return result, err
	}
	behind := s.sent - s.slow.Total()
	if stalled && behind == 0 {
		return result, errors.New("the reader that stalls has got everything")
	}
	pages, err := s.node.Metric(ctx, "postbus_pages_total")
	if err != nil {
		return result, err
	}
	began := time.Now()
	s.slow.Until(s.sent)
	if err := s.slow.Stall(false); err != nil {
		return result, err
	}
	if err := s.await(ctx, s.caught); err != nil {
		return result, fmt.Errorf("the slow reader has %d of %d messages: %w", s.slow.Total(), s.sent, err)
	}
	took := time.Since(began).Seconds()
	pagesAfter, err := s.node.Metric(ctx, "postbus_pages_total")
	if err != nil {
		return result, err
	}
	result.Figures = []float64{
		p.took.percentile(50), p.took.percentile(99), p.took.percentile(99.9),
		memory / 1e6, float64(behind), pagesAfter - pages, took,
	}
	return result, errors.Join(s.brisk.Check(s.sent), s.slow.Check(s.sent))
}

// await waits for event, for as long as messages may be on their way.
func (s *slowScene) await(ctx context.Context, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case err := <-s.brisk.Failed():
		return err
	case err := <-s.slow.Failed():
		return err
	case <-time.After(sink.BurstPatience):
		return fmt.Errorf("not all has come within %s", sink.BurstPatience)
	case <-ctx.Done():
		return ctx.Err()
	}
}
