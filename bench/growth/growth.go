//go:build unix

// Package growth measures what a message costs as everything around it grows tenfold.
package growth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const (
	sharedChannel = "shared"

	growthConns = 10 // connections of many subscribers
	growthBatch = 32 // messages of a burst, if there are several

	rowChannels = 100 // channels that the rows of a filled table are of
	pageRows    = 10  // notifications of a page
	most        = 10_000
)

// Run measures one thing after the other that grows.
func Run(ctx context.Context, b *rig.Bench) (err error) {
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	million := 1_000_000
	if b.Quick {
		million = 100_000
	}
	t := &compare.Table{Header: []string{
		"what grows", "to", "cost of", "node: µs of CPU", "database: µs of CPU", "wall µs", "node: times the size before (goal: 1 a unit)", "database: times the size before",
	}}
	for _, g := range []growing{
		{"subscribers of other channels", "a message to one reader", []int{100, 1_000, most}, otherSubscribers(r)},
		{"subscribers of the same channel", "a message delivered", []int{100, 1_000, most}, sameSubscribers(r)},
		{"channels, with a row of each and readers of up to 10,000", "a message sent", upTo(1_000, million), channels(r)},
		{"rows, Send", "a message sent", upTo(10_000, million), rowsSent(r)},
		{"rows, catching up", fmt.Sprintf("a page of %d messages", pageRows), upTo(10_000, million), rowsRead(r)},
		{"channels of a reader, catching up", "a message read", upTo(1, 1_000), channelsRead(r)},
		{"nodes, a reader on each; their CPU together", "a message sent", []int{1, 2, 4, 10}, moreNodes(r)},
	} {
		if err := grow(ctx, b, r, g, t); err != nil {
			return err
		}
	}
	b.Out.Section("Growth", fmt.Sprintf("Messages of 200 bytes: one at a time to subscribers of the same channel, else %d in a call; the next call when what is read of the one before has come. "+
		"A node reads its tail while it waits for a commit, so that a slow disk costs it CPU time. All sizes of a thing are open at once, each on a database of its own, and take turns.", growthBatch))
	t.Print(b.Out)
	return nil
}

// upTo returns from, and tenfold again and again up to to.
func upTo(from, to int) (sizes []int) {
	for ; from <= to; from *= 10 {
		sizes = append(sizes, from)
	}
	return sizes
}

// start begins a point: a database with so many rows, and a node on it with a client.
func start(ctx context.Context, r *rig.Rig, p *point, rows, channels int) (postbusv1.BusServiceClient, error) {
	url, err := freshDatabase(ctx, r)
	if err != nil {
		return nil, err
	}
	if rows > 0 {
		if err := rig.Fill(ctx, url, rows, channels); err != nil {
			return nil, err
		}
	}
	return p.node(ctx, r, url)
}

func freshDatabase(ctx context.Context, r *rig.Rig) (url string, err error) {
	return r.Database(ctx, fmt.Sprintf("growth-%d", rand.Uint64()))
}

// node adds a node and returns a client of it.
func (p *point) node(ctx context.Context, r *rig.Rig, url string) (postbusv1.BusServiceClient, error) {
	n, err := r.StartNode(ctx, url)
	if err != nil {
		return nil, err
	}
	p.nodes = append(p.nodes, n)
	p.Add(n.End)
	conn, err := rig.Dial(n.GRPCAddr)
	if err != nil {
		return nil, err
	}
	p.Add(conn.Close)
	return postbusv1.NewBusServiceClient(conn), nil
}

// sink adds readers of the last node.
func (p *point) sink(ctx context.Context, channel string, readers, conns int) (*sink.Far, error) {
	s, err := sink.Start(ctx, sink.Plan{Target: p.nodes[len(p.nodes)-1].GRPCAddr, Conns: conns, Readers: readers, Channel: channel})
	if err != nil {
		return nil, err
	}
	p.Add(s.End)
	return s, nil
}

func otherSubscribers(r *rig.Rig) func(context.Context, int, *point) error {
	return func(ctx context.Context, size int, p *point) error {
		bus, err := start(ctx, r, p, 0, 0)
		if err != nil {
			return err
		}
		if _, err := p.sink(ctx, "channel-%d", size, growthConns); err != nil {
			return err
		}
		probe, err := p.sink(ctx, "probe", 1, 1)
		p.step = func(ctx context.Context) (int, error) {
			return growthBatch, probe.Burst(ctx, growthBatch, func(ctx context.Context) error { return rig.SendBurst(ctx, bus, "probe", growthBatch) })
		}
		return err
	}
}

func sameSubscribers(r *rig.Rig) func(context.Context, int, *point) error {
	return func(ctx context.Context, size int, p *point) error {
		bus, err := start(ctx, r, p, 0, 0)
		if err != nil {
			return err
		}
		readers, err := p.sink(ctx, sharedChannel, size, growthConns)
		p.step = func(ctx context.Context) (int, error) {
			return size, readers.Burst(ctx, 1, func(ctx context.Context) error { return rig.SendBurst(ctx, bus, sharedChannel, 1) })
		}
		return err
	}
}

func channels(r *rig.Rig) func(context.Context, int, *point) error {
	return func(ctx context.Context, size int, p *point) error {
		bus, err := start(ctx, r, p, size, size)
		if err != nil {
			return err
		}
		readers, err := p.sink(ctx, "channel-%d", min(size, most), growthConns)
		p.step = func(ctx context.Context) (int, error) {
			return growthBatch, readers.Scatter(ctx, bus, growthBatch, func() int { return rand.IntN(size) })
		}
		return err
	}
}

func rowsSent(r *rig.Rig) func(context.Context, int, *point) error {
	return func(ctx context.Context, size int, p *point) error {
		bus, err := start(ctx, r, p, size, rowChannels)
		p.step = func(ctx context.Context) (int, error) {
			return growthBatch, rig.SendBurst(ctx, bus, "channel-7", growthBatch)
		}
		return err
	}
}

func rowsRead(r *rig.Rig) func(context.Context, int, *point) error {
	return func(ctx context.Context, size int, p *point) error {
		bus, err := start(ctx, r, p, size, rowChannels)
		p.step = func(ctx context.Context) (int, error) {
			after, limit := rand.Int64N(int64(size)/2), int32(pageRows)
			page, err := bus.Poll(ctx, &postbusv1.PollRequest{
				Channels: []string{fmt.Sprintf("channel-%d", rand.IntN(rowChannels))},
				After:    &after, Max: &limit, Timeout: durationpb.New(0),
			})
			if err == nil && len(page.GetNotifications()) != pageRows {
				err = fmt.Errorf("a page after %d of %d rows has %d notifications", after, size, len(page.GetNotifications()))
			}
			return 1, err
		}
		return err
	}
}

// channelsRead is a reader of so many of a log's busy channels.
func channelsRead(r *rig.Rig) func(context.Context, int, *point) error {
	return func(ctx context.Context, size int, p *point) error {
		const rows, busy, page = 200_000, 1_000, 100
		bus, err := start(ctx, r, p, rows, busy)
		var channels []string
		for n := range size {
			channels = append(channels, fmt.Sprintf("channel-%d", n*busy/size))
		}
		p.step = func(ctx context.Context) (int, error) {
			after, limit := rand.Int64N(rows/4), int32(page)
			answer, err := bus.Poll(ctx, &postbusv1.PollRequest{Channels: channels, After: &after, Max: &limit, Timeout: durationpb.New(0)})
			if err == nil && len(answer.GetNotifications()) == 0 {
				err = fmt.Errorf("an empty page of %d channels after %d of %d rows", size, after, rows)
			}
			return len(answer.GetNotifications()), err
		}
		return err
	}
}

func moreNodes(r *rig.Rig) func(context.Context, int, *point) error {
	return func(ctx context.Context, size int, p *point) error {
		url, err := freshDatabase(ctx, r)
		if err != nil {
			return err
		}
		var buses []postbusv1.BusServiceClient
		var sinks []*sink.Far
		for range size {
			bus, err := p.node(ctx, r, url)
			if err != nil {
				return err
			}
			s, err := p.sink(ctx, sharedChannel, 1, 1)
			if err != nil {
				return err
			}
			buses, sinks = append(buses, bus), append(sinks, s)
		}
		p.step = func(ctx context.Context) (int, error) {
			for _, s := range sinks {
				if err := s.Expect(growthBatch); err != nil {
					return 0, err
				}
			}
			if err := rig.SendBurst(ctx, buses[rand.IntN(size)], sharedChannel, growthBatch); err != nil {
				return 0, err
			}
			for _, s := range sinks {
				if err := s.Wait(); err != nil {
					return 0, err
				}
			}
			return growthBatch, nil
		}
		return nil
	}
}
