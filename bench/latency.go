//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const (
	pace = 30 // messages a second

	// underWay bounds the sends that are not answered yet, a second's worth.
	underWay = pace

	// arrival is how long after the last send everything must have come.
	arrival = 10 * time.Second
)

// latency measures the way of a lone message from a client's Send to a client's stream.
func (b *bench) latency(ctx context.Context) (err error) {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	n, err := startNode(ctx, b.program, r.nodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.end()) }()
	byHand, err := startPart(ctx, 30*time.Second, []string{loopDatabase + "=" + r.plainURL}, "loop-server")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, byHand.end()) }()

	length := b.pick(20*time.Second, 5*time.Second)
	throughNode := func(ctx context.Context) (sample, error) {
		if err := n.untilAsleep(ctx); err != nil {
			return sample{}, err
		}
		return journeys(ctx, n.grpcAddr, length, n.process.pid(), r.postgres.PID())
	}
	const node, again, hand = "Postbus", "Postbus, again", "a loop by hand"
	e := experiment{
		title: "Latency on an idle server",
		text: fmt.Sprintf("%d messages of 200 bytes a second for %s, at random moments, from before Send to behind Recv of a stream in the same process, two connections. "+
			"The loop by hand, a process too, has the same hops and nothing else: unary gRPC, INSERT and NOTIFY, LISTEN, one SELECT, a gRPC stream.", pace, length),
		columns: []string{"p50 ms", "p90 ms", "p99 ms"},
		variants: []variant{
			{node, "p99 ≤ 15 ms", throughNode},
			{hand, "", func(ctx context.Context) (sample, error) {
				return journeys(ctx, byHand.addr, length, byHand.process.pid(), r.postgres.PID())
			}},
			{again, "", throughNode},
		},
		ratios: []ratio{
			{"p50, Postbus / loop by hand", "≤ 1.5", divide(node, hand, 0)},
			{"p90, Postbus / loop by hand", "", divide(node, hand, 1)},
			{"p99, Postbus / loop by hand", "", divide(node, hand, 2)},
			{"p50, Postbus against itself", "", divide(again, node, 0)},
			{"p99, Postbus against itself", "", divide(again, node, 2)},
		},
	}
	return e.perform(ctx, b.reps, b.out)
}

// A stamped payload says when it was sent, on this process's clock.
type stamped struct {
	Sent time.Duration `json:"sent"`
	Text string        `json:"text"`
}

// journeys sends at the pace for length and measures each message until it has come back.
func journeys(ctx context.Context, target string, length time.Duration, server, postmaster int) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, length+arrival)
	defer cancel()
	sending, err := dial(target)
	if err != nil {
		return sample{}, err
	}
	defer sending.Close()
	receiving, err := dial(target)
	if err != nil {
		return sample{}, err
	}
	defer receiving.Close()
	channel := fmt.Sprintf("latency-%d", rand.Uint64())
	stream, err := postbusv1.NewBusServiceClient(receiving).Subscribe(ctx, &postbusv1.SubscribeRequest{Channels: []string{channel}})
	if err != nil {
		return sample{}, err
	}
	if _, err := stream.Recv(); err != nil { // from now on nothing is missed
		return sample{}, err
	}
	m, err := newMeter(server, postmaster)
	if err != nil {
		return sample{}, err
	}
	count := int(length.Seconds() * pace)
	var took []float64
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		took, err = receive(stream, m.began, count)
		return err
	})
	group.Go(func() error {
		return sendAtPace(ctx, postbusv1.NewBusServiceClient(sending), channel, m.began, count)
	})
	if err := group.Wait(); err != nil {
		return sample{}, err
	}
	return m.sample(percentile(took, 50), percentile(took, 90), percentile(took, 99))
}

// sendAtPace sends count messages, and does not wait for the answer of one before it
// sends the next: a stall must show in all that it delays.
func sendAtPace(ctx context.Context, bus postbusv1.BusServiceClient, channel string, began time.Time, count int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(underWay)
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := time.Now()
	for range count {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return group.Wait()
		}
		group.Go(func() error {
			body, err := json.Marshal(stamped{time.Since(began), strings.Repeat("x", 170)})
			if err != nil {
				return err
			}
			_, err = bus.Send(ctx, &postbusv1.SendRequest{Messages: []*postbusv1.Message{
				{Channel: channel, Body: &postbusv1.Message_Json{Json: string(body)}},
			}})
			return err
		})
		// Half to one and a half of the mean: in step with nobody's timers.
		next = next.Add(time.Duration((0.5 + rand.Float64()) * float64(time.Second) / pace))
		timer.Reset(time.Until(next))
	}
	return group.Wait()
}

// receive returns how many milliseconds each of count notifications took.
func receive(stream postbusv1.BusService_SubscribeClient, began time.Time, count int) ([]float64, error) {
	var took []float64
	for len(took) < count {
		response, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("after %d of %d messages: %w", len(took), count, err)
		}
		now := time.Since(began)
		for _, n := range response.GetNotifications() {
			var s stamped
			if err := json.Unmarshal([]byte(n.GetJson()), &s); err != nil {
				return nil, err
			}
			took = append(took, (now-s.Sent).Seconds()*1000)
		}
	}
	return took, nil
}
