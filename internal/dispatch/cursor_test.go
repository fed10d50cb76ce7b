package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestLastMovesOverOtherChannels, and never over something that is pending for the
// reader itself, in a batch as in a heartbeat.
func TestLastMovesOverOtherChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a", "b")
		for range 10 {
			m.send("other")
		}
		time.Sleep(time.Second)
		if last := s.Last(); last != 10 {
			t.Errorf("last %d, want 10", last)
		}
		if last := expectNothing(t, s, time.Second); last != 10 {
			t.Errorf("last %d, want 10", last)
		}
		m.send("other", "a", "other", "b", "a", "other") // 11 to 16
		time.Sleep(time.Second)
		if last := s.Last(); last != 10 {
			t.Errorf("a heartbeat's last is %d while 12 is pending, want 10", last)
		}
		for _, want := range []bus.ID{12, 14} {
			b := next(t, s, 1, time.Second)
			if len(b.Notifications) != 1 || b.Last != want || s.Last() != want {
				t.Errorf("got %v, last %d, then %d; want %d", idsOf(b.Notifications), b.Last, s.Last(), want)
			}
		}
		if b := next(t, s, 1, time.Second); b.Last != 16 {
			t.Errorf("last %d behind everything, want 16", b.Last)
		}
		stays := subscribe(t, d, at(16), "a")
		if last := expectNothing(t, stays, 0); last != 16 {
			t.Errorf("last %d, want the reader's own 16", last)
		}
	})
}

// TestLastOfAReaderOfTheTable does not pass what the table still has for it.
func TestLastOfAReaderOfTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1})
		for range 5 {
			m.send("a", "other")
		}
		time.Sleep(2 * time.Second)
		s := subscribe(t, d, at(0), "a")
		for want := range bus.ID(5) {
			if last := s.Last(); last > 2*want {
				t.Errorf("last %d while %d is pending", last, 2*want+1)
			}
			if b := next(t, s, 1, 0); len(b.Notifications) != 1 || b.Notifications[0].ID != 2*want+1 {
				t.Fatalf("got %v, want %d", idsOf(b.Notifications), 2*want+1)
			}
		}
		if last := expectNothing(t, s, 0); last != 10 {
			t.Errorf("last %d, want 10", last)
		}
	})
}

// TestNextWaitsAsLongAsAsked: not at all with 0, until wait without anything, and no
// longer than until something comes.
func TestNextWaitsAsLongAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		s := subscribe(t, d, nil, "a")
		asleep(t, d)
		for _, wait := range []time.Duration{0, -time.Second, time.Second, 50 * time.Second} {
			begin := time.Now()
			expectNothing(t, s, wait)
			if took := time.Since(begin); took != max(wait, 0) {
				t.Errorf("Next took %v, asked for %v", took, wait)
			}
		}
		time.AfterFunc(10*time.Second, func() { m.send("other") })
		time.AfterFunc(20*time.Second, func() { m.send("a") })
		begin := time.Now()
		expect(t, s, time.Minute, 2)
		if took := time.Since(begin); took < 20*time.Second || took > 20*time.Second+promptly {
			t.Errorf("Next took %v, the message came after 20 s", took)
		}
	})
}

// TestNextEndsWithItsContext, with the cursor.
func TestNextEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		m.send("other")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		b, err := s.Next(ctx, 10, time.Hour)
		if !errors.Is(err, context.DeadlineExceeded) || b.Last != 1 || time.Since(begin) != 10*time.Second {
			t.Errorf("Next: %+v, %v after %v", b, err, time.Since(begin))
		}
		m.send("a")
		expect(t, s, time.Second, 2)
	})
}

// TestDrainEndsEveryNext, waiting or to come, with its last; nobody new is admitted.
func TestDrainEndsEveryNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		m.send("a", "b")
		time.Sleep(time.Second)
		waiting := subscribe(t, d, nil, "a")
		pending := subscribe(t, d, at(0), "a")
		trimmed := subscribe(t, d, at(99), "a")
		answers := make(chan string, 1)
		go func() {
			b, err := waiting.Next(context.Background(), 10, time.Hour)
			answers <- fmt.Sprint(b.Empty(), b.Last, errors.Is(err, bus.ErrDraining))
		}()
		synctest.Wait()
		d.Drain()
		synctest.Wait()
		select {
		case got := <-answers:
			if got != "true 2 true" {
				t.Errorf("a waiting Next ended with %q", got)
			}
		default:
			t.Error("a waiting Next still waits")
		}
		if b, err := pending.Next(t.Context(), 10, time.Hour); !errors.Is(err, bus.ErrDraining) || b.Last != 0 || !b.Empty() {
			t.Errorf("Next: %+v, %v; want last 0, since 1 is pending", b, err)
		}
		want := bus.Gap{Reason: bus.Ahead, After: 2, Until: 2}
		if b, err := trimmed.Next(t.Context(), 10, time.Hour); !errors.Is(err, bus.ErrDraining) || b.Last != 2 || b.Gap == nil || *b.Gap != want {
			t.Errorf("Next: %+v, %v; want last 2 only with its gap", b, err)
		}
		if _, err := d.Subscribe(t.Context(), []string{"a"}, nil); !errors.Is(err, bus.ErrDraining) {
			t.Errorf("Subscribe: %v, want %v", err, bus.ErrDraining)
		}
	})
}

// TestCloseReleasesEverything: what is left of closed subscriptions is how quiet their
// channels are, and of that not too much.
func TestCloseReleasesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.send("first")
		d := start(t, m, Options{WindowBytes: 1})
		for i := range 200 {
			var subs []*Subscription
			for j := range 4 {
				s, err := d.Subscribe(t.Context(), []string{fmt.Sprint("own ", i), fmt.Sprint("shared ", j), "all"}, at(0))
				if err != nil {
					t.Fatal(err)
				}
				subs = append(subs, s)
			}
			m.send("all", fmt.Sprint("own ", i))
			next(t, subs[i%4], 10, time.Second)
			for j := range subs {
				subs[(i+j)%4].Close()
			}
			subs[0].Close() // a second time does nothing
		}
		time.Sleep(leftFor + 2*time.Second)
		if _, n := kept(d); n != 1 || d.State().Subscriptions != 0 {
			t.Errorf("%d topics are left, want the window's last one; %d subscriptions", n, d.State().Subscriptions)
		}
	})
	var w window
	w.init(1)
	for i := range quietBound + 1000 {
		topic := w.topic(fmt.Sprint(i))
		topic.learn(bus.ID(i), bus.ID(i))
		w.release(topic)
	}
	if len(w.quiet) != quietBound || len(w.topics) != 0 {
		t.Errorf("%d channels are remembered, at most %d; %d topics", len(w.quiet), quietBound, len(w.topics))
	}
}

// TestWindowFitsItsBound: a notification larger than the bound stays until the
// next one comes, since readers wait for it.
func TestWindowFitsItsBound(t *testing.T) {
	var w window
	w.init(1000)
	for id := range bus.ID(5000) {
		w.append(&bus.Notification{ID: id + 1, Channel: fmt.Sprint(id % 7), JSON: string(make([]byte, id%700))})
		w.evict()
		if w.bytes > 1000 && w.len() > 1 {
			t.Fatalf("%d bytes in %d notifications after id %d", w.bytes, w.len(), id+1)
		}
	}
	sum, held := 0, 0
	for _, n := range w.log[w.start:] {
		sum += n.Size()
	}
	for _, topic := range w.topics {
		held += len(topic.log)
	}
	if sum != w.bytes || held != w.len() || len(w.log) > 3000 {
		t.Errorf("%d bytes counted as %d; %d of %d by channel; %d slots kept", sum, w.bytes, held, w.len(), len(w.log))
	}
}

// TestAwaitEndsWithWhatComes at that moment, with its wait, and with its context.
func TestAwaitEndsWithWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		ctx, stop := context.WithCancel(t.Context())
		s := subscribe(t, d, nil, "a")
		await := func(wait, took time.Duration, want error) {
			t.Helper()
			began := time.Now()
			if err := s.Await(ctx, wait); !errors.Is(err, want) || time.Since(began) != took {
				t.Errorf("%v after %v, want %v after %v", err, time.Since(began), want, took)
			}
		}
		expectNothing(t, s, 0)
		time.AfterFunc(time.Second, func() { send("b") })
		time.AfterFunc(2*time.Second, func() { send("a") })
		await(time.Minute, 2*time.Second, nil)
		expect(t, s, 0, 2)
		send("a")
		await(time.Minute, 0, nil) // before the wait
		expect(t, s, 0, 3)
		await(time.Minute, time.Minute, nil)
		await(-1, 0, nil)
		time.AfterFunc(time.Second, stop)
		await(time.Minute, time.Second, context.Canceled)
	})
}
