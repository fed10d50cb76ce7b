package dispatch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A rider is a stream on a Subscription that rides whenever it can.
type rider struct {
	sub   *Subscription
	carry func(*Batch) error // asked before a batch is carried; nil: nothing stalls
	wait  time.Duration      // of each Ride

	mu       sync.Mutex
	batches  []Batch
	carried  int // of batches, by a courier
	returned error
	ended    chan struct{}
}

// startRider starts a rider, which ends with ctx or with an error of Ride.
func startRider(ctx context.Context, s *Subscription, peer uint64, carry func(*Batch) error) *rider {
	r := &rider{sub: s, carry: carry, wait: time.Hour, ended: make(chan struct{})}
	to := Carrier{Peer: peer, Carry: func(b *Batch) error {
		if b.Forms[0] == nil {
			b.Forms[0] = r
		}
		if r.carry != nil {
			if err := r.carry(b); err != nil {
				return err
			}
		}
		r.note(*b, 1)
		return nil
	}}
	go func() {
		defer close(r.ended)
		for r.returned == nil {
			var b Batch
			if b, r.returned = s.Ride(ctx, 100, r.wait, to); !b.Empty() || r.returned == nil {
				r.note(b, 0)
			}
		}
	}()
	return r
}

func (r *rider) note(b Batch, carried int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, b)
	r.carried += carried
}

// ids returns what the rider was given so far.
func (r *rider) ids() (ids []bus.ID, carried int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.batches {
		ids = append(ids, idsOf(b.Notifications)...)
	}
	return ids, r.carried
}

func (r *rider) expect(t *testing.T, name string, carried int, want ...bus.ID) {
	t.Helper()
	synctest.Wait()
	ids, by := r.ids()
	if !slices.Equal(ids, want) || by != carried {
		t.Errorf("%s was given %v, %d batches by a courier; want %v, %d", name, ids, by, want, carried)
	}
}

// following starts a Dispatcher and returns it with a function that commits and offers
// one message on each channel: riders have it at once.
func following(t *testing.T, o Options) (*model, *Dispatcher, func(channels ...string)) {
	m := newModel()
	d := start(t, m, o)
	return m, d, func(channels ...string) { d.Offer(m.send(channels...)) }
}

// TestRidersGetEveryMessageOnceInOrder on one channel or several, the newcomer too.
func TestRidersGetEveryMessageOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		ctx, stop := context.WithCancel(t.Context())
		one := startRider(ctx, subscribe(t, d, nil, "a"), 0, nil)
		same := startRider(ctx, subscribe(t, d, nil, "a"), 0, nil)
		both := startRider(ctx, subscribe(t, d, nil, "a", "b"), 1, nil)
		quiet := startRider(ctx, subscribe(t, d, nil, "c"), 0, nil)
		synctest.Wait()
		send("a", "b", "a")
		late := startRider(ctx, subscribe(t, d, at(1), "a"), 0, nil)
		synctest.Wait()
		send("b")
		synctest.Wait()
		send("a")
		one.expect(t, "one", 2, 1, 3, 5)
		same.expect(t, "same", 2, 1, 3, 5)
		both.expect(t, "both", 3, 1, 2, 3, 4, 5)
		late.expect(t, "late", 2, 3, 5)
		quiet.expect(t, "quiet", 0)
		if last := quiet.sub.Last(); last != 5 {
			t.Errorf("last of a quiet rider %d, want 5", last)
		}
		stop()
		for _, r := range []*rider{one, same, both, late, quiet} {
			if <-r.ended; !errors.Is(r.returned, context.Canceled) {
				t.Errorf("a rider whose context ended returned %v", r.returned)
			}
		}
	})
}

// TestEqualBatchesAreOne: riders that stand at one place are given one Batch, so that
// what is made of it is made once.
func TestEqualBatchesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		ctx, stop := context.WithCancel(t.Context())
		given := make(chan *Batch, 3)
		note := func(b *Batch) error { given <- b; return nil }
		for range 2 {
			defer func(r *rider) { <-r.ended }(startRider(ctx, subscribe(t, d, nil, "a"), 0, note))
		}
		defer func(r *rider) { <-r.ended }(startRider(ctx, subscribe(t, d, nil, "b"), 0, note))
		defer stop()
		synctest.Wait()
		send("a", "a", "b")
		one, two, other := <-given, <-given, <-given
		if one != two || other == one {
			t.Errorf("batches %v, %v of one place, %v of another", one, two, other)
		}
	})
}

// TestStalledRiderDelaysNobody: the courier that is stuck keeps the stalled one alone, and
// that one gets everything when its transport takes it; then it does without a courier for
// a minute.
func TestStalledRiderDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d, send := following(t, Options{WindowBytes: 1 << 10})
		ctx, stop := context.WithCancel(t.Context())
		free := make(chan struct{})
		stalls := true
		stalled := startRider(ctx, subscribe(t, d, nil, "a"), 0, func(*Batch) error {
			if stalls {
				<-free
			}
			return nil
		})
		var others []*rider
		for range 10 {
			others = append(others, startRider(ctx, subscribe(t, d, nil, "a"), 0, nil))
		}
		synctest.Wait()
		send("a")
		time.Sleep((watchLooks + 1) * watchEvery)
		want := []bus.ID{1}
		for _, o := range others {
			o.expect(t, "other", 1, want...)
		}
		for id := range bus.ID(100) {
			send("a")
			want = append(want, id+2)
			synctest.Wait()
		}
		for _, o := range others {
			o.expect(t, "other, without a wait", 101, want...)
		}
		if n := d.State().Stalls; n != 1 {
			t.Errorf("%d stalls counted, want 1", n)
		}
		stalls = false
		close(free)
		time.Sleep(time.Second)
		stalled.expect(t, "the stalled one, from the table", 1, want...)
		if m.pages == 0 {
			t.Error("the window was large enough for the stalled one: nothing was proved")
		}
		send("a")
		stalled.expect(t, "the stalled one, soon after", 1, append(want, 102)...)
		time.Sleep(walkAfterDelay)
		send("a")
		synctest.Wait()
		send("a")
		stalled.expect(t, "the stalled one, later", 2, append(want, 102, 103, 104)...)
		stop()
		for _, r := range append(others, stalled) {
			<-r.ended
		}
	})
}

// TestStalledRiderEndsWithItsContext: its owner waits until Carry has returned, with or
// without an error.
func TestStalledRiderEndsWithItsContext(t *testing.T) {
	for _, failure := range []error{nil, errModel} {
		synctest.Test(t, func(t *testing.T) {
			_, d, send := following(t, Options{})
			ctx, stop := context.WithCancel(t.Context())
			carrying := true
			r := startRider(ctx, subscribe(t, d, nil, "a"), 0, func(*Batch) error {
				<-ctx.Done()
				time.Sleep(time.Millisecond)
				carrying = false
				return failure
			})
			synctest.Wait()
			send("a")
			synctest.Wait()
			stop()
			if <-r.ended; carrying || r.returned == nil {
				t.Errorf("Ride returned %v; Carry still runs: %t", r.returned, carrying)
			}
		})
	}
}

// TestReleaseLetsCarryReturnAtTheEndOfTheRide, and is not called when nobody carries.
func TestReleaseLetsCarryReturnAtTheEndOfTheRide(t *testing.T) {
	for _, carries := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			_, d, send := following(t, Options{})
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			released := make(chan struct{})
			to := Carrier{
				Carry: func(*Batch) error {
					select {
					case <-released:
					case <-time.After(time.Hour):
					}
					return errModel
				},
				Release: func() { close(released) },
			}
			s := subscribe(t, d, nil, "a")
			if carries {
				time.AfterFunc(time.Second, func() { send("a") })
			}
			_, err := s.Ride(ctx, 100, time.Hour, to)
			want := context.DeadlineExceeded
			if carries {
				want = errModel
			}
			if !errors.Is(err, want) {
				t.Errorf("Ride returned %v, want %v", err, want)
			}
			select {
			case <-released:
			default:
				if carries {
					t.Error("Release was not called")
				}
				return
			}
			if !carries {
				t.Error("Release was called, and nobody carried")
			}
		})
	}
}

// TestRiderWhoLeavesTheQueueIsNotServed: his turn would have come behind a stalled one's.
func TestRiderWhoLeavesTheQueueIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		ctx, stop := context.WithCancel(t.Context())
		for range handful { // the first of whom stalls
			startRider(ctx, subscribe(t, d, nil, "a"), 0, func(*Batch) error { <-ctx.Done(); return ctx.Err() })
		}
		leaving, leave := context.WithCancel(t.Context())
		r := startRider(leaving, subscribe(t, d, nil, "b"), 0, func(*Batch) error { t.Error("served behind its end"); return nil })
		synctest.Wait()
		send("a", "b")
		synctest.Wait()
		leave()
		if <-r.ended; !errors.Is(r.returned, context.Canceled) {
			t.Errorf("Ride returned %v", r.returned)
		}
		time.Sleep(time.Second)
		stop()
	})
}

// TestRiderIsServedAgain with what comes while Carry is under way, or before it boards.
func TestRiderIsServedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		ctx, stop := context.WithCancel(t.Context())
		s := subscribe(t, d, nil, "a")
		r := startRider(ctx, s, 0, func(*Batch) error { time.Sleep(watchEvery); return nil })
		synctest.Wait()
		send("a")
		synctest.Wait()
		send("a")
		time.Sleep(time.Second)
		r.expect(t, "the rider", 2, 1, 2)
		stop()
		<-r.ended
		send("a")
		synctest.Wait()
		ctx, stop = context.WithCancel(t.Context())
		r = startRider(ctx, s, 0, nil)
		r.expect(t, "the rider, again", 1, 3)
		stop()
		<-r.ended
	})
}

// TestRideReturnsCarrysError, and the Subscription is its owner's.
func TestRideReturnsCarrysError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		s := subscribe(t, d, nil, "a")
		r := startRider(t.Context(), s, 0, func(*Batch) error { return errModel })
		synctest.Wait()
		send("a")
		if <-r.ended; !errors.Is(r.returned, errModel) {
			t.Errorf("Ride returned %v, want %v", r.returned, errModel)
		}
		send("a")
		expect(t, s, 0, 2)
	})
}

// TestRideReturnsAfterSilence of its wait, and not while something comes.
func TestRideReturnsAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		s := subscribe(t, d, nil, "a")
		carried := 0
		to := Carrier{Carry: func(*Batch) error { carried++; return nil }}
		go func() {
			for range 5 {
				time.Sleep(6 * time.Second)
				send("a")
			}
		}()
		began := time.Now()
		b, err := s.Ride(t.Context(), 100, 10*time.Second, to)
		if err != nil || !b.Empty() || b.Last != 5 || carried != 5 {
			t.Errorf("%+v, %v, %d carried", b, err, carried)
		}
		if took := time.Since(began); took != 40*time.Second {
			t.Errorf("10 s of silence end after %v, want 40 s", took)
		}
	})
}

// TestRideReturnsWhatIsUnusual: the gap of a new history, and the drain.
func TestRideReturnsWhatIsUnusual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d, send := following(t, Options{})
		r := startRider(t.Context(), subscribe(t, d, nil, "a"), 0, nil)
		synctest.Wait()
		send("a", "a")
		synctest.Wait()
		past := m.failover(1)
		m.send("a")
		waitFor(t, "the gap", time.Minute, func() bool { ids, _ := r.ids(); return len(ids) == 3 })
		gap := bus.Gap{Reason: bus.History, After: 1, Until: past.Until}
		if b := r.batches[1]; b.Gap == nil || *b.Gap != gap {
			t.Errorf("%+v, want the gap %+v", b, gap)
		}
		send("a")
		r.expect(t, "the rider", 2, 1, 2, past.Until+1, past.Until+2)
		d.Drain()
		if <-r.ended; !errors.Is(r.returned, bus.ErrDraining) {
			t.Errorf("Ride returned %v, want %v", r.returned, bus.ErrDraining)
		}
	})
}

// TestRidersAreCutByTheirLimit, and what is cut off follows.
func TestRidersAreCutByTheirLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		ctx, stop := context.WithCancel(t.Context())
		var sizes []int
		r := startRider(ctx, subscribe(t, d, nil, "a"), 0, func(b *Batch) error {
			sizes = append(sizes, len(b.Notifications))
			return nil
		})
		synctest.Wait()
		var want []bus.ID
		channels := make([]string, 250)
		for i := range channels {
			channels[i] = "a"
			want = append(want, bus.ID(i+1))
		}
		send(channels...)
		r.expect(t, "the rider", 3, want...)
		if !slices.Equal(sizes, []int{100, 100, 50}) {
			t.Errorf("batches of %v", sizes)
		}
		stop()
		<-r.ended
	})
}

// TestCourierIsReplacedOnlyWhenASubscriptionHoldsItUp: not before it runs, not while it
// looks at the window, and not when it is at another handful by now.
func TestCourierIsReplacedOnlyWhenASubscriptionHoldsItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Store: newModel()})
		one, two := &Subscription{d: d}, &Subscription{d: d}
		r := &round{watching: time.AfterFunc(time.Hour, func() {})}
		watch := func(want int64) {
			t.Helper()
			if r.watch(); r.stalls() != want {
				t.Errorf("replaced %d times, want %d", r.stalls(), want)
			}
		}
		r.courier = newCourier() // has not run yet
		for range 2 * watchLooks {
			watch(0)
		}
		c := &courier{hand: []*Subscription{one, two}}
		r.courier = c
		c.at.Store(looking)
		for range 2 * watchLooks {
			watch(0)
		}
		c.at.Store(0)
		for range 2 * watchLooks {
			watch(0)
			c.turns++
		}
		for range watchLooks - 1 {
			watch(0)
		}
		watch(1)
		if kept := c.hand; len(kept) != 1 || kept[0] != one {
			t.Errorf("the courier keeps %v", kept)
		}
		synctest.Wait()
		r.watching.Stop()
	})
}
