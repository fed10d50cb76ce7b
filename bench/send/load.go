//go:build unix

package send

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// conns is how many connections the callers share, as far as there are as many callers.
const conns = 4

// A load is how Send is called: by so many callers at once, each with one call under way.
type load struct {
	callers int
	size    int // messages in a call
	length  time.Duration
}

// rateColumns are the figures of measure.
func rateColumns() []string { return []string{"messages/s", "CPU µs a message", "cores busy"} }

// measure runs call by all callers and says what it gave and took. The CPU time is that
// of client, servers and database together.
func (l load) measure(ctx context.Context, m *rig.Meter, call func(ctx context.Context, caller int) error) (compare.Sample, error) {
	made, wall, err := hammer(ctx, l.callers, l.length, call)
	if err != nil {
		return compare.Sample{}, err
	}
	s, err := m.Sample()
	messages, spent := float64(made)*float64(l.size), s.CPU.Total().Seconds()
	s.Figures = []float64{messages / wall.Seconds(), 1e6 * spent / messages, spent / s.Wall.Seconds()}
	return s, err
}

// calls measures Send at targets. Each caller goes round its connections, which are spread
// over the targets.
func (l load) calls(ctx context.Context, targets []string, servers []int, postmaster int) (compare.Sample, error) {
	clients := make([]postbusv1.BusServiceClient, max(min(conns, l.callers), len(targets)))
	for i := range clients {
		conn, err := rig.Dial(targets[i%len(targets)])
		if err != nil {
			return compare.Sample{}, err
		}
		defer conn.Close()
		clients[i] = postbusv1.NewBusServiceClient(conn)
	}
	requests := make([]*postbusv1.SendRequest, l.callers)
	for i := range requests {
		requests[i] = &postbusv1.SendRequest{Messages: make([]*postbusv1.Message, l.size)}
		for j := range requests[i].Messages {
			requests[i].Messages[j] = &postbusv1.Message{
				Channel: fmt.Sprintf("bench-%d", i),
				Body:    &postbusv1.Message_Json{Json: rig.Payload()},
			}
		}
	}
	m, err := rig.NewMeter(postmaster, servers...)
	if err != nil {
		return compare.Sample{}, err
	}
	rounds := make([]int, l.callers) // of each caller, used by it alone
	return l.measure(ctx, m, func(ctx context.Context, caller int) error {
		client := clients[(caller+rounds[caller])%len(clients)]
		rounds[caller]++
		response, err := client.Send(ctx, requests[caller])
		if err == nil && len(response.GetResults()) != l.size {
			return fmt.Errorf("%d results for %d messages", len(response.GetResults()), l.size)
		}
		return err
	})
}

// hammer calls work from so many goroutines, again and again until length is over, and
// returns how often in how long. Calls under way at the end count with their time.
func hammer(ctx context.Context, workers int, length time.Duration, work func(ctx context.Context, worker int) error) (calls int64, wall time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, length+time.Minute)
	defer cancel()
	counts := make([]int64, workers)
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for worker := range workers {
		group.Go(func() error {
			n := int64(0)
			for time.Since(began) < length {
				if err := work(ctx, worker); err != nil {
					return err
				}
				n++
			}
			counts[worker] = n
			return nil
		})
	}
	err = group.Wait()
	for _, n := range counts {
		calls += n
	}
	return calls, time.Since(began), err
}
