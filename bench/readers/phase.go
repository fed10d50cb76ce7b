//go:build unix

package readers

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A phase is a schedule of messages, and how long each of them took to each reader.
type phase struct {
	first int64           // notifications that each reader had before
	due   []time.Duration // when to send, since began
	began time.Time
	took  delays
	left  atomic.Int64  // deliveries
	done  chan struct{} // closed when all brisk readers have got everything
}

// newPhase makes a schedule from now on for length: half to one and a half of the mean
// between two messages, in step with nobody's timers.
func newPhase(first int64, length time.Duration) *phase {
	p := &phase{first: first, done: make(chan struct{}), began: time.Now()}
	for at := time.Duration(0); at < length; at += time.Duration((0.5 + rand.Float64()) * float64(time.Second) / slowPace) {
		p.due = append(p.due, at)
	}
	p.left.Store(int64(len(p.due)) * briskReaders)
	return p
}

// send sends each message when it is due, whether those before it are answered or not:
// a stall must show in all that it delays.
func (p *phase) send(ctx context.Context, bus postbusv1.BusServiceClient) error {
	body := `"` + strings.Repeat("x", 1022) + `"`
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(slowPace)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, due := range p.due {
		timer.Reset(due - time.Since(p.began))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return group.Wait()
		}
		group.Go(func() error {
			_, err := bus.Send(ctx, &postbusv1.SendRequest{Messages: []*postbusv1.Message{
				{Channel: slowChannel, Body: &postbusv1.Message_Json{Json: body}},
			}})
			return err
		})
	}
	return group.Wait()
}

// record notes that a reader that had so many notifications got some more just now.
func (p *phase) record(had int64, notifications int) {
	now := time.Since(p.began)
	for i := range notifications {
		p.took.add(now - p.due[had-p.first+int64(i)])
	}
	if p.left.Add(-int64(notifications)) == 0 {
		close(p.done)
	}
}

// delays count durations, to a tenth of a millisecond and up to ten seconds; longer ones
// count as that (TestDelaysHavePercentiles). Any goroutine may add.
type delays [100_001]atomic.Int64

const delayStep = 100 * time.Microsecond

func (d *delays) add(took time.Duration) {
	d[min(max(int(took/delayStep), 0), len(d)-1)].Add(1)
}

// percentile returns what p percent of the delays do not exceed, in milliseconds.
func (d *delays) percentile(p float64) float64 {
	total := int64(0)
	for i := range d {
		total += d[i].Load()
	}
	rank := int64(math.Ceil(p / 100 * float64(total)))
	for i := range d {
		if rank -= d[i].Load(); rank <= 0 {
			return (time.Duration(i+1) * delayStep).Seconds() * 1000
		}
	}
	return math.NaN()
}
