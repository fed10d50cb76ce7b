package groupcommit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refused is the payload that the model refuses as bad data.
const refused = "refused"

var errRefused = errors.New("bad data")

// A model is a Store in memory. A commit takes as long as takes says, and fails as fail
// says, called with the batch.
type model struct {
	takes time.Duration
	fail  func(sends [][]bus.Message) error

	mu          sync.Mutex
	busy        map[string]bool // keys that open transactions use
	given       bus.ID
	stored      []*bus.Notification
	batches     []int // their messages, in the order in which they began
	callers     []any // of the batches, as far as their contexts say
	now, atOnce int
}

// caller is the key of a context under which the model finds whose it is.
type caller struct{}

// Append implements Store.
func (m *model) Append(ctx context.Context, sends [][]bus.Message) ([]Result, []*bus.Notification, error) {
	n := 0
	for _, s := range sends {
		n += len(s)
	}
	m.mu.Lock()
	m.batches, m.callers = append(m.batches, n), append(m.callers, ctx.Value(caller{}))
	m.now++
	m.atOnce = max(m.atOnce, m.now)
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.now--
		m.mu.Unlock()
	}()
	select {
	case <-time.After(m.takes):
	case <-ctx.Done():
		return nil, nil, bus.ErrUnknownOutcome
	}
	if m.fail != nil {
		if err := m.fail(sends); err != nil {
			return nil, nil, err
		}
	}
	return m.commit(sends)
}

func (m *model) commit(sends [][]bus.Message) ([]Result, []*bus.Notification, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range sends {
		if slices.ContainsFunc(s, func(msg bus.Message) bool { return msg.JSON == refused }) {
			return nil, nil, &DataError{errRefused}
		}
	}
	results := make([]Result, len(sends))
	var stored []*bus.Notification
	for i, s := range sends {
		if slices.ContainsFunc(s, func(msg bus.Message) bool { return m.busy[msg.Key] }) {
			results[i].Busy = true
			continue
		}
		for _, msg := range s {
			m.given++
			stored = append(stored, &bus.Notification{ID: m.given, Channel: msg.Channel, JSON: msg.JSON})
			results[i].Receipts = append(results[i].Receipts, bus.Receipt{ID: m.given})
		}
	}
	m.stored = append(m.stored, stored...)
	return results, stored, nil
}

func (m *model) setBusy(key string, busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy = map[string]bool{key: busy}
}

// begun returns the sizes of the batches that began so far.
func (m *model) begun() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.batches)
}

// start runs a Writer on m until stop is called, which waits for it, or the test ends.
func start(t *testing.T, m *model, o Options) (w *Writer, stop func()) {
	t.Helper()
	o.Store = m
	w = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	synctest.Wait() // until it runs
	stop = func() {
		cancel()
		<-ended
		if st := w.State(); st.Queued != 0 || st.QueuedBytes != 0 || len(w.parked) != 0 {
			t.Errorf("state %+v, %d parked after the end", st, len(w.parked))
		}
	}
	t.Cleanup(stop)
	return w, stop
}

// An outcome is what one Send returned, and when.
type outcome struct {
	receipts []bus.Receipt
	err      error
	took     time.Duration
}

// sending sends in the background.
func sending(ctx context.Context, w *Writer, messages ...bus.Message) <-chan outcome {
	out := make(chan outcome, 1)
	begin := time.Now()
	go func() {
		receipts, err := w.Send(ctx, messages)
		out <- outcome{receipts, err, time.Since(begin)}
	}()
	return out
}

func message(json string) bus.Message { return bus.Message{Channel: "a", JSON: json} }
