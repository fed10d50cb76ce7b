//go:build unix

package idle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
)

// idleReps bounds the repetitions of idlers, which take a minute each.
const idleReps = 3

// An idleKind is a way in which many readers wait for nothing.
type idleKind struct {
	name, goal string
	gauge      string // the node's metric that counts them
	start      func(ctx context.Context, n *rig.Node) (end func() error, err error)
}

// grpcKind is streams over so many connections.
func grpcKind(name, goal string, conns int) idleKind {
	return idleKind{name, goal, "postbus_streams", func(ctx context.Context, n *rig.Node) (func() error, error) {
		s, err := sink.Start(ctx, sink.Plan{Target: n.GRPCAddr, Conns: conns, Readers: streamCount, Channel: "idle-%d"})
		if err != nil {
			return nil, err
		}
		return s.End, nil
	}}
}

// httpKind is requests on connections of their own.
func httpKind(name, goal, gauge string, plan httpPlan) idleKind {
	return idleKind{name, goal, gauge, func(ctx context.Context, n *rig.Node) (func() error, error) {
		plan.Target, plan.Readers = n.HTTPAddr, streamCount
		p, err := startHTTP(ctx, plan)
		if err != nil {
			return nil, err
		}
		return p.End, nil
	}}
}

func idleKinds() []idleKind {
	const channel = "channels=idle-%d"
	return []idleKind{
		{"no readers", "statements ≤ 2/s, node ≤ 1 %", "", func(context.Context, *rig.Node) (func() error, error) { return func() error { return nil }, nil }},
		grpcKind("gRPC, 100 connections", "≤ 12 KB", 100),
		grpcKind("gRPC, a connection each", "≤ 32 KB", streamCount),
		httpKind(sink.Polls, "≤ 20 KB", "postbus_polls", httpPlan{Path: "/v1/poll?timeout=50s&" + channel, Accept: "application/json", Poll: true}),
		httpKind("lines", "", "postbus_streams", httpPlan{Path: "/v1/subscribe?" + channel, Accept: "application/x-ndjson"}),
		httpKind(sink.Events, "≤ 28 KB", "postbus_streams", httpPlan{Path: "/v1/subscribe?" + channel, Accept: "text/event-stream"}),
		httpKind(sink.Sockets, "≤ 16 KB", "postbus_streams", httpPlan{Path: "/v1/subscribe?" + channel, Socket: true}),
		httpKind("WebSocket of Odoo", "", "postbus_streams", httpPlan{
			Path: "/websocket", Socket: true, First: `{"event_name":"subscribe","data":{"channels":["idle-%d"],"last":0}}`,
		}),
	}
}

// Readers measures what readers cost that wait for nothing, by each way in. Every way has
// a node and a database of its own, and all of them are watched at the same time: they
// do next to nothing.
func Readers(ctx context.Context, b *rig.Bench) (err error) {
	if err := rig.NeedFiles(streamCount); err != nil {
		return err
	}
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	if err := r.LogStatements(ctx); err != nil {
		return err
	}
	kinds := idleKinds()
	samples := compare.Runs{}
	for rep := range min(b.Reps, idleReps) {
		if err := idleTogether(ctx, b, r, rep, kinds, samples); err != nil {
			return err
		}
	}
	e := compare.Experiment{
		Title: "Idle readers",
		Text: fmt.Sprintf("%s readers, each on a channel of its own, that wait. Long-poll, lines, SSE and WebSockets have a connection each. Memory: resident, of a node just started, after a forced collection, less that before. "+
			"CPU and statements, which PostgreSQL logs: for %s, in which each stream has a heartbeat and no poll of 50 s ends; %d repetitions, each with new nodes.", compare.Figure(streamCount), idleLength(b), min(b.Reps, idleReps)),
		Columns: []string{"KB a reader", "node: % of a core", "statements/s", "s to open all"},
	}
	for _, kind := range kinds {
		e.Variants = append(e.Variants, compare.Variant{Name: kind.name, Goal: kind.goal})
	}
	return e.Report(b.Out, samples)
}

// idleLength is one heartbeat.
func idleLength(b *rig.Bench) time.Duration { return b.Pick(20*time.Second, 5*time.Second) }

// idleTogether opens all kinds, one after the other, watches them, and adds a sample to
// each.
func idleTogether(ctx context.Context, b *rig.Bench, r *rig.Rig, rep int, kinds []idleKind, samples compare.Runs) (err error) {
	var watched []*watchedIdlers
	defer func() {
		for _, w := range watched {
			err = errors.Join(err, w.end())
		}
	}()
	for i := range kinds {
		kind := kinds[(i+rep)%len(kinds)]
		w, err := openIdlers(ctx, b, r, fmt.Sprintf("idle-%d-%d", rep, i), kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		watched = append(watched, w)
		fmt.Fprintf(os.Stderr, "idlers: %d: %s: %.3g KB each\n", rep+1, kind.name, w.kilobytes)
	}
	for _, w := range watched {
		if err := w.begin(ctx); err != nil {
			return err
		}
	}
	select {
	case <-time.After(idleLength(b)):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, w := range watched {
		s, err := w.sample(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", w.kind.name, err)
		}
		samples[w.kind.name] = append(samples[w.kind.name], s)
	}
	return nil
}

// watchedIdlers are the readers of one kind, on their node.
type watchedIdlers struct {
	kind      idleKind
	rig       *rig.Rig
	node      *rig.Node
	url       string // of the node's database
	close     func() error
	kilobytes float64
	opening   time.Duration
	meter     *rig.Meter
	before    int64 // statements
}

// openIdlers starts a node and the readers, and measures their memory.
func openIdlers(ctx context.Context, b *rig.Bench, r *rig.Rig, database string, kind idleKind) (w *watchedIdlers, err error) {
	url, err := r.Database(ctx, database)
	if err != nil {
		return nil, err
	}
	n, err := r.StartNode(ctx, url)
	if err != nil {
		return nil, err
	}
	w = &watchedIdlers{kind: kind, rig: r, node: n, url: url, close: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.End())
		}
	}()
	before, err := n.Resident(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if w.close, err = kind.start(ctx, n); err != nil {
		return nil, err
	}
	if kind.gauge != "" {
		err = n.Until(ctx, "at "+compare.Figure(streamCount)+" readers", func() bool {
			open, err := n.Metric(ctx, kind.gauge)
			return err == nil && open >= streamCount
		})
	}
	w.opening = time.Since(began)
	after := 0.0
	if err == nil {
		after, err = n.Resident(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	w.kilobytes = (after - before) / 1024 / streamCount
	return w, n.UntilAsleep(ctx)
}

func (w *watchedIdlers) begin(ctx context.Context) (err error) {
	if w.before, err = w.rig.Statements(w.url); err != nil {
		return err
	}
	w.meter, err = rig.NewMeter(w.node.PID(), w.rig.Postmaster())
	return err
}

func (w *watchedIdlers) sample(ctx context.Context) (compare.Sample, error) {
	s, err := w.meter.Sample()
	if err != nil {
		return s, err
	}
	after, err := w.rig.Statements(w.url)
	if err != nil {
		return s, err
	}
	wall := s.Wall.Seconds()
	s.Figures = []float64{w.kilobytes, 100 * s.CPU.Server.Seconds() / wall, float64(after-w.before) / wall, w.opening.Seconds()}
	return s, w.node.Ready(ctx)
}

func (w *watchedIdlers) end() error { return errors.Join(w.close(), w.node.End()) }
