//go:build unix

// Package latency measures the way of a message from Send to a stream, beside a loop of the
// same hops made by hand.
package latency

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/send"
)

const (
	// idlePace is the rate at which a server is idle between two messages.
	idlePace = 30

	// HalfOfHighest stands for a rate: half of what the same way can do.
	HalfOfHighest = 0
)

// Run measures the way of a message from a client's Send to a client's stream, at the
// given rate a second.
func Run(ctx context.Context, b *rig.Bench, rate int) (err error) {
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	var nodes []*rig.Node // one alone, and two together
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.End())
		}
	}()
	for _, address := range []string{r.NodeURL, r.PairURL, r.PairURL} {
		n, err := r.StartNode(ctx, address)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	byHand, err := rig.StartPart(ctx, 30*time.Second, []string{loopDatabase + "=" + r.PlainURL}, "loop-server")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, byHand.End()) }()

	pid := func(n *rig.Node) int { return n.PID() }
	one := &route{from: nodes[0].GRPCAddr, to: nodes[0].GRPCAddr, servers: []int{pid(nodes[0])}}
	two := &route{from: nodes[1].GRPCAddr, to: nodes[2].GRPCAddr, servers: []int{pid(nodes[1]), pid(nodes[2])}}
	hand := &route{from: byHand.Addr, to: byHand.Addr, servers: []int{byHand.PID()}, loses: true}
	for _, each := range []*route{one, two, hand} {
		each.nodes, each.postmaster = nodes, r.Postmaster()
		if each.rate = float64(rate); rate == HalfOfHighest {
			top, err := send.Highest(ctx, each.from, each.to, each.servers, each.postmaster, b.Pick(2*time.Second, time.Second))
			if err != nil {
				return err
			}
			each.rate = math.Floor(top / 2)
		}
	}
	reps := b.Fewer()
	if rate == idlePace {
		reps = b.Reps
	}
	return latencies(b, rate, one, two, hand).Perform(ctx, reps, b.Out)
}

// latencies compares the routes.
func latencies(b *rig.Bench, rate int, one, two, hand *route) *compare.Experiment {
	title, length := fmt.Sprintf("Latency at %s messages/s", compare.Figure(float64(rate))), b.Pick(4*time.Second, 2*time.Second)
	lastGoal, middleRatio, lastRatio := "", "", ""
	switch rate {
	case idlePace:
		title, length = "Latency on an idle server", b.Pick(12*time.Second, 5*time.Second)
		lastGoal, middleRatio, lastRatio = "p99 ≤ 15 ms", "≤ 1.2", "≤ 2"
	case HalfOfHighest:
		title = "Latency at half of the highest rate"
	}
	over := func(r *route) func(context.Context) (compare.Sample, error) {
		return func(ctx context.Context) (compare.Sample, error) { return r.journeys(ctx, length) }
	}
	const viaOne, viaTwo, byHand, viaAgain = "Postbus", "Postbus, two nodes", "a loop by hand", "Postbus, again"
	const p50, p90, p99 = 0, 1, 2
	return &compare.Experiment{
		Title: title,
		Text: fmt.Sprintf("Messages of 200 bytes for %s, at random moments, none waiting for another: from the moment when it is to be sent to behind Recv of a stream in the same process, two connections. "+
			"The answer of Send comes after the commit, often after the message itself. Two nodes: sent to one, received from the other. "+
			"The loop by hand, a process too, has the same hops and nothing else: unary gRPC, INSERT and NOTIFY, LISTEN, one SELECT, a gRPC stream. It loses a message whose id commits late.", length),
		Columns: []string{"p50 ms", "p90 ms", "p99 ms", "after the answer: p50 ms", "after the answer: p99 ms", "messages/s", "lost"},
		Variants: []compare.Variant{
			{Name: viaOne, Goal: lastGoal, Run: over(one)},
			{Name: viaTwo, Goal: lastGoal, Run: over(two)},
			{Name: byHand, Run: over(hand)},
			{Name: viaAgain, Run: over(one)},
		},
		Ratios: []compare.Ratio{
			{Name: "p50, Postbus / loop by hand", Goal: middleRatio, Of: compare.Divide(viaOne, byHand, p50)},
			{Name: "p90, Postbus / loop by hand", Of: compare.Divide(viaOne, byHand, p90)},
			{Name: "p99, Postbus / loop by hand", Goal: lastRatio, Of: compare.Divide(viaOne, byHand, p99)},
			{Name: "p50, two nodes / loop by hand", Goal: middleRatio, Of: compare.Divide(viaTwo, byHand, p50)},
			{Name: "p90, two nodes / loop by hand", Of: compare.Divide(viaTwo, byHand, p90)},
			{Name: "p99, two nodes / loop by hand", Goal: lastRatio, Of: compare.Divide(viaTwo, byHand, p99)},
			{Name: "p50, Postbus against itself", Of: compare.Divide(viaAgain, viaOne, p50)},
			{Name: "p99, Postbus against itself", Of: compare.Divide(viaAgain, viaOne, p99)},
		},
	}
}
