package dispatch

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a Dispatcher on m until the test ends, and waits until it is ready.
func start(t *testing.T, m *model, o Options) *Dispatcher {
	t.Helper()
	d := run(t, m, o)
	<-d.Ready()
	return d
}

// run runs a Dispatcher on m until the test ends.
func run(t *testing.T, m *model, o Options) *Dispatcher {
	t.Helper()
	o.Store = m
	d := New(o)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v after it was stopped", err)
		}
		for _, v := range m.violated() {
			t.Error(v)
		}
	})
	return d
}

// asleep waits until d blocks on the bell.
func asleep(t *testing.T, d *Dispatcher) {
	t.Helper()
	waitFor(t, "sleep", 5*time.Second, func() bool { return d.State().Sleeping })
	synctest.Wait()
}

// waitFor looks every virtual millisecond whether something has happened.
func waitFor(t *testing.T, what string, patience time.Duration, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

func at(id bus.ID) *bus.ID { return &id }

func subscribe(t *testing.T, d *Dispatcher, after *bus.ID, channels ...string) *Subscription {
	t.Helper()
	s, err := d.Subscribe(t.Context(), channels, after)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// refused asserts that d cannot serve after yet.
func refused(t *testing.T, d *Dispatcher, after *bus.ID) {
	t.Helper()
	s, err := d.Subscribe(t.Context(), []string{"a"}, after)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Subscribe: %v, want %v", err, bus.ErrUnavailable)
	}
}

func next(t *testing.T, s *Subscription, limit int, wait time.Duration) Batch {
	t.Helper()
	b, err := s.Next(t.Context(), limit, wait)
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return b
}

// kept returns how many offers and topics d keeps in memory.
func kept(d *Dispatcher) (offers, topics int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.early.log), len(d.window.topics)
}

func idsOf(ns []*bus.Notification) []bus.ID {
	ids := make([]bus.ID, len(ns))
	for i, n := range ns {
		ids[i] = n.ID
	}
	return ids
}

// expect reads until as many notifications as ids have come, without a gap, and
// returns the last cursor.
func expect(t *testing.T, s *Subscription, wait time.Duration, ids ...bus.ID) (last bus.ID) {
	t.Helper()
	var got []bus.ID
	for end := time.Now().Add(wait); len(got) < len(ids); {
		b := next(t, s, 100, time.Until(end))
		if b.Gap != nil {
			t.Fatalf("gap %+v after %v, want only %v", *b.Gap, got, ids)
		}
		got, last = append(got, idsOf(b.Notifications)...), b.Last
		if len(b.Notifications) == 0 {
			break
		}
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("got %v, want %v (last %d)", got, ids, last)
	}
	return last
}

// expectNothing asserts that s has nothing to give for as long as wait.
func expectNothing(t *testing.T, s *Subscription, wait time.Duration) (last bus.ID) {
	t.Helper()
	b := next(t, s, 100, wait)
	if !b.Empty() {
		t.Fatalf("got %v, gap %v; want nothing", idsOf(b.Notifications), b.Gap)
	}
	return b.Last
}

// expectGap reads one batch, which must begin with this gap.
func expectGap(t *testing.T, s *Subscription, want bus.Gap) Batch {
	t.Helper()
	b := next(t, s, 100, time.Minute)
	if b.Gap == nil || *b.Gap != want {
		t.Fatalf("gap %+v with %v, want %+v", b.Gap, idsOf(b.Notifications), want)
	}
	for _, n := range b.Notifications {
		if n.ID <= want.Until {
			t.Errorf("id %d in a response whose gap reaches to %d", n.ID, want.Until)
		}
	}
	if b.Last < want.Until {
		t.Errorf("last %d is below the gap's end %d", b.Last, want.Until)
	}
	return b
}
