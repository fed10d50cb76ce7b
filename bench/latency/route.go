//go:build unix

package latency

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A route is a way for messages: sent to one server, received from it or from another.
type route struct {
	from, to   string
	servers    []int // process numbers
	postmaster int
	nodes      []*rig.Node // must be asleep before a measurement
	rate       float64     // messages a second
	loses      bool        // messages may get lost
}

const (
	// arrival is how long after the last answer everything must have come.
	arrival = 10 * time.Second

	// lossArrival is the same where it need not: late is lost then.
	lossArrival = 2 * time.Second
)

// A journey is what happened to one message, measured from the begin of all.
type journey struct{ due, answered, arrived time.Duration }

// A numbered payload says which message it is.
type numbered struct {
	Number int    `json:"number"`
	Text   string `json:"text"`
}

// journeys sends at the rate for length and measures each message until it has come back.
func (r *route) journeys(ctx context.Context, length time.Duration) (compare.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, length+time.Minute)
	defer cancel()
	for _, n := range r.nodes {
		if err := n.UntilAsleep(ctx); err != nil {
			return compare.Sample{}, err
		}
	}
	sending, err := rig.Dial(r.from)
	if err != nil {
		return compare.Sample{}, err
	}
	defer sending.Close()
	receiving, err := rig.Dial(r.to)
	if err != nil {
		return compare.Sample{}, err
	}
	defer receiving.Close()
	channel := fmt.Sprintf("latency-%d", rand.Uint64())
	reading, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := rig.Subscribe(reading, receiving, channel)
	if err != nil {
		return compare.Sample{}, err
	}
	m, err := rig.NewMeter(r.postmaster, r.servers...)
	if err != nil {
		return compare.Sample{}, err
	}
	all := make([]journey, max(int(length.Seconds()*r.rate), 1))
	received := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(received)
		if err := receive(stream, channel, m.Began, all); reading.Err() == nil {
			return err
		}
		return nil // what is missing shows in all
	})
	group.Go(func() error {
		defer stop()
		if err := r.sendAtPace(ctx, postbusv1.NewBusServiceClient(sending), channel, m.Began, all); err != nil {
			return err
		}
		select {
		case <-received:
		case <-time.After(r.patience()):
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return compare.Sample{}, err
	}
	figures, lost := timings(all)
	if lost > 0 && !r.loses {
		return compare.Sample{}, fmt.Errorf("%d of %d messages did not arrive within %s", lost, len(all), arrival)
	}
	return m.Sample(append(figures, float64(len(all))/all[len(all)-1].due.Seconds(), float64(lost))...)
}

func (r *route) patience() time.Duration {
	if r.loses {
		return lossArrival
	}
	return arrival
}

// timings returns the percentiles of what arrived, in milliseconds, and how many did not.
func timings(all []journey) (figures []float64, lost int) {
	var whole, rest []float64
	for _, j := range all {
		if j.arrived == 0 {
			lost++
			continue
		}
		whole = append(whole, 1000*(j.arrived-j.due).Seconds())
		rest = append(rest, 1000*(j.arrived-j.answered).Seconds())
	}
	return []float64{
		percentile(whole, 50), percentile(whole, 90), percentile(whole, 99),
		percentile(rest, 50), percentile(rest, 99),
	}, lost
}

// percentile returns the smallest of values that p percent of them do not exceed
// (nearest rank: always one that was measured), for p above 0 and up to 100; NaN without
// values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// sendAtPace sends all, and does not wait for the answer of one before it sends the next.
// A message is due by the clock, so that a stall shows in all that it delays, even where
// a second's worth is under way and the next must wait after all.
func (r *route) sendAtPace(ctx context.Context, bus postbusv1.BusServiceClient, channel string, began time.Time, all []journey) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(int(r.rate), 1))
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for i := range all {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return group.Wait()
		}
		all[i].due = due.Sub(began)
		group.Go(func() error {
			body, err := json.Marshal(numbered{i, strings.Repeat("x", 170)})
			if err != nil {
				return err
			}
			_, err = bus.Send(ctx, &postbusv1.SendRequest{Messages: []*postbusv1.Message{
				{Channel: channel, Body: &postbusv1.Message_Json{Json: string(body)}},
			}})
			all[i].answered = time.Since(began)
			return err
		})
		// Half to one and a half of the mean: in step with nobody's timers.
		due = due.Add(time.Duration((0.5 + rand.Float64()) * float64(time.Second) / r.rate))
		timer.Reset(time.Until(due))
	}
	return group.Wait()
}

// receive notes the arrival of each message until all have come.
func receive(stream postbusv1.BusService_SubscribeClient, channel string, began time.Time, all []journey) error {
	for got := 0; got < len(all); {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("after %d of %d messages: %w", got, len(all), err)
		}
		now := time.Since(began)
		for _, n := range response.GetNotifications() {
			if n.GetChannel() != channel {
				continue // the loop by hand knows no channels
			}
			var message numbered
			if err := json.Unmarshal([]byte(n.GetJson()), &message); err != nil {
				return err
			}
			if message.Number < 0 || message.Number >= len(all) || all[message.Number].arrived != 0 {
				return fmt.Errorf("message %d arrived, which was not sent or has come already", message.Number)
			}
			all[message.Number].arrived = now
			got++
		}
	}
	return nil
}
