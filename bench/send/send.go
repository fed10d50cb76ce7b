//go:build unix

// Package send measures what takes messages in: Send by gRPC and postbus.send in SQL, beside
// their parts alone, what is written by hand, and other brokers.
package send

import (
	"context"
	"errors"
	"fmt"

	"github.com/postbus/postbus/bench/internal/bare"
	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
)

// mainCallers is how many callers the goals beside gRPC and PostgreSQL alone are for.
const mainCallers = 64

// RPC measures what Send gives to so many callers with so many messages a call.
func RPC(ctx context.Context, b *rig.Bench, callers, size int) (err error) {
	c := &sending{load: load{callers, size, b.Length}, mean: 1}
	reps := b.Fewer()
	if callers == mainCallers {
		c.length, reps = 2*b.Length, b.Reps
	}
	defer func() { err = errors.Join(err, c.End()) }()
	if err := c.start(ctx, b); err != nil {
		return err
	}
	return c.experiment(ctx, b).Perform(ctx, reps, b.Out)
}

// A sending is what one comparison of Send needs.
type sending struct {
	load
	rig.Ending
	rig  *rig.Rig
	one  *rig.Node   // alone on its database
	two  []*rig.Node // together on theirs
	bare *rig.Part   // gRPC without anything behind it
	mean float64     // rows that the one node stored in a statement, the last time it was measured
}

func (c *sending) start(ctx context.Context, b *rig.Bench) error {
	var err error
	if c.rig, err = b.NewRig(ctx); err != nil {
		return err
	}
	c.Add(func() error { return c.rig.End(ctx) })
	if c.one, err = c.rig.StartNode(ctx, c.rig.NodeURL); err != nil {
		return err
	}
	c.Add(c.one.End)
	for range 2 {
		n, err := c.rig.StartNode(ctx, c.rig.PairURL)
		if err != nil {
			return err
		}
		c.two = append(c.two, n)
		c.Add(n.End)
	}
	if c.bare, err = bare.StartEcho(ctx); err != nil {
		return err
	}
	c.Add(c.bare.End)
	return nil
}

// The names of the variants, in the tables and for the ratios.
const (
	viaOne     = "Postbus"
	viaTwo     = "Postbus, two nodes"
	viaAgain   = "Postbus, again"
	grpcAlone  = "a: gRPC alone"
	rowsAlone  = "a: INSERT alone"
	eachInsert = "b: INSERT and commit each"
	eachNotify = "c: INSERT, NOTIFY and commit each"
	viaNATS    = "d: NATS JetStream"
	viaRedis   = "e: Redis Streams"
)

func (c *sending) experiment(ctx context.Context, b *rig.Bench) *compare.Experiment {
	postmaster := c.rig.Postmaster()
	e := &compare.Experiment{
		Title: fmt.Sprintf("Send, %d a call, %s", c.size, plural(c.callers, "caller")),
		Text: fmt.Sprintf("%s on up to %d connections, %s of 200 bytes of JSON a call, for %s. Nobody reads. The CPU time a message is that of client, servers and database together. "+
			"a: an empty unary grpc-go server with the same requests and as many results, and INSERTs of as many rows as Postbus stored in a statement, over up to %d connections, into the same table of a database that nobody follows. "+
			"b, c: a session for each caller, one message a transaction whatever the call; a session LISTENs. "+
			"d: sync_interval always, one stream in files; 100 a call as an atomic batch, and with 64 callers as async publishes too, of which the better counts. e: appendonly yes, appendfsync always, a connection for each caller; 100 a call in one MULTI.",
			plural(c.callers, "caller"), conns, plural(c.size, "message"), c.length, writers),
		Columns: append(rateColumns(), "rows a statement"),
		Variants: []compare.Variant{
			{Name: viaOne, Run: func(ctx context.Context) (compare.Sample, error) {
				s, err := c.through(ctx, c.one)
				if err == nil {
					c.mean = s.Figures[3]
				}
				return s, err
			}},
			{Name: viaTwo, Run: func(ctx context.Context) (compare.Sample, error) { return c.through(ctx, c.two...) }},
			{Name: grpcAlone, Run: noRows(func(ctx context.Context) (compare.Sample, error) {
				return c.calls(ctx, []string{c.bare.Addr}, []int{c.bare.PID()}, postmaster)
			})},
			{Name: rowsAlone, Run: func(ctx context.Context) (compare.Sample, error) { return c.inserts(ctx, c.rig, c.mean) }},
			{Name: eachInsert, Run: noRows(func(ctx context.Context) (compare.Sample, error) {
				return c.each(ctx, c.rig.PlainURL, insertOne, postmaster)
			})},
			{Name: eachNotify, Run: noRows(func(ctx context.Context) (s compare.Sample, err error) {
				stop, err := listen(ctx, c.rig.PlainURL, "bench")
				if err != nil {
					return s, err
				}
				defer func() { err = errors.Join(err, stop()) }()
				return c.each(ctx, c.rig.PlainURL, insertRing, postmaster)
			})},
		},
	}
	rivals := c.rivals(ctx, b, e)
	e.Variants = append(e.Variants, compare.Variant{Name: viaAgain, Run: func(ctx context.Context) (compare.Sample, error) { return c.through(ctx, c.one) }})
	e.Ratios = c.ratios(rivals)
	return e
}

// through measures Send at nodes, callers spread over all, and the rows of their statements.
func (c *sending) through(ctx context.Context, nodes ...*rig.Node) (compare.Sample, error) {
	var targets []string
	var servers []int
	for _, n := range nodes {
		targets, servers = append(targets, n.GRPCAddr), append(servers, n.PID())
	}
	before, err := storedBy(ctx, nodes)
	if err != nil {
		return compare.Sample{}, err
	}
	s, err := c.calls(ctx, targets, servers, c.rig.Postmaster())
	if err != nil {
		return s, err
	}
	after, err := storedBy(ctx, nodes)
	s.Figures = append(s.Figures, (after.messages-before.messages)/(after.batches-before.batches))
	return s, err
}

// stored is what the writers of nodes have done since their start.
type stored struct{ messages, batches float64 }

func storedBy(ctx context.Context, nodes []*rig.Node) (stored, error) {
	var all stored
	for _, n := range nodes {
		messages, err := n.Metric(ctx, "postbus_send_messages_total")
		if err != nil {
			return all, err
		}
		batches, err := n.Metric(ctx, "postbus_send_batches_total")
		if err != nil {
			return all, err
		}
		all.messages += messages
		all.batches += batches
	}
	return all, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
