//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// idlePace is the rate at which a server is idle between two messages.
	idlePace = 30

	// halfOfHighest stands for a rate: half of what the same way can do.
	halfOfHighest = 0
)

// latency measures the way of a message from a client's Send to a client's stream, at the
// given rate a second.
func (b *bench) latency(ctx context.Context, rate int) (err error) {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	var nodes []*node // one alone, and two together
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.end())
		}
	}()
	for _, address := range []string{r.nodeURL, r.pairURL, r.pairURL} {
		n, err := startNode(ctx, b.program, address)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	byHand, err := startPart(ctx, 30*time.Second, []string{loopDatabase + "=" + r.plainURL}, "loop-server")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, byHand.end()) }()

	pid := func(n *node) int { return n.process.pid() }
	one := &route{from: nodes[0].grpcAddr, to: nodes[0].grpcAddr, servers: []int{pid(nodes[0])}}
	two := &route{from: nodes[1].grpcAddr, to: nodes[2].grpcAddr, servers: []int{pid(nodes[1]), pid(nodes[2])}}
	hand := &route{from: byHand.addr, to: byHand.addr, servers: []int{byHand.process.pid()}, loses: true}
	for _, each := range []*route{one, two, hand} {
		each.nodes, each.postmaster = nodes, r.postgres.PID()
		if each.rate = float64(rate); rate == halfOfHighest {
			highest, err := each.highest(ctx, b.pick(2*time.Second, time.Second))
			if err != nil {
				return err
			}
			each.rate = math.Floor(highest / 2)
		}
	}
	reps := b.fewer()
	if rate == idlePace {
		reps = b.reps
	}
	return b.latencies(rate, one, two, hand).perform(ctx, reps, b.out)
}

// latencies compares the routes.
func (b *bench) latencies(rate int, one, two, hand *route) *experiment {
	title, length := fmt.Sprintf("Latency at %s messages/s", figure(float64(rate))), b.pick(4*time.Second, 2*time.Second)
	lastGoal, middleRatio, lastRatio := "", "", ""
	switch rate {
	case idlePace:
		title, length = "Latency on an idle server", b.pick(12*time.Second, 5*time.Second)
		lastGoal, middleRatio, lastRatio = "p99 ≤ 15 ms", "≤ 1.2", "≤ 2"
	case halfOfHighest:
		title = "Latency at half of the highest rate"
	}
	over := func(r *route) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) { return r.journeys(ctx, length) }
	}
	const byHand, p50, p90, p99 = "a loop by hand", 0, 1, 2
	return &experiment{
		title: title,
		text: fmt.Sprintf("Messages of 200 bytes for %s, at random moments, none waiting for another: from the moment when it is to be sent to behind Recv of a stream in the same process, two connections. "+
			"The answer of Send comes after the commit, often after the message itself. Two nodes: sent to one, received from the other. "+
			"The loop by hand, a process too, has the same hops and nothing else: unary gRPC, INSERT and NOTIFY, LISTEN, one SELECT, a gRPC stream. It loses a message whose id commits late.", length),
		columns: []string{"p50 ms", "p90 ms", "p99 ms", "after the answer: p50 ms", "after the answer: p99 ms", "messages/s", "lost"},
		variants: []variant{
			{viaOne, lastGoal, over(one)},
			{viaTwo, lastGoal, over(two)},
			{byHand, "", over(hand)},
			{viaAgain, "", over(one)},
		},
		ratios: []ratio{
			{"p50, Postbus / loop by hand", middleRatio, divide(viaOne, byHand, p50)},
			{"p90, Postbus / loop by hand", "", divide(viaOne, byHand, p90)},
			{"p99, Postbus / loop by hand", lastRatio, divide(viaOne, byHand, p99)},
			{"p50, two nodes / loop by hand", middleRatio, divide(viaTwo, byHand, p50)},
			{"p90, two nodes / loop by hand", "", divide(viaTwo, byHand, p90)},
			{"p99, two nodes / loop by hand", lastRatio, divide(viaTwo, byHand, p99)},
			{"p50, Postbus against itself", "", divide(viaAgain, viaOne, p50)},
			{"p99, Postbus against itself", "", divide(viaAgain, viaOne, p99)},
		},
	}
}
