package dispatch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestEveryMessageOnceInOrder lets transactions commit out of order, roll back and
// prepare, kills connections, lets a node offer its own batches in any order, and lets
// readers read, ride, stall, drop and go on by their last on either of two nodes. Each is
// given what was committed on its channels above its cursor: all of it, once, ids ascending.
func TestEveryMessageOnceInOrder(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { everyMessageOnce(t, seed) })
		})
	}
}

func everyMessageOnce(t *testing.T, seed uint64) {
	m := newModel()
	leaves := rand.New(rand.NewPCG(seed, 102))
	m.hollow = func() bool { return leaves.IntN(3) > 0 }
	nodes := []*Dispatcher{
		start(t, m, Options{WindowBytes: 1 << (9 + seed%8)}),
		start(t, m, Options{WindowBytes: 4 << 10, PageReaders: 1}),
	}
	for _, d := range nodes {
		d.mu.Lock()
		d.window.leftFor = time.Duration(seed%4) * 5 * time.Millisecond
		d.mu.Unlock()
	}
	var senders sync.WaitGroup
	for i := range uint64(6) {
		senders.Go(func() { sendAtRandom(m, rand.New(rand.NewPCG(seed, i)), 40) })
	}
	senders.Go(func() { offerAtRandom(m, nodes[0], rand.New(rand.NewPCG(seed, 100)), 60) })

	if seed%3 == 0 {
		senders.Go(func() { restartAtRandom(m, rand.New(rand.NewPCG(seed, 101)), 10) })
	}

	var readers sync.WaitGroup
	finish := make(chan struct{})
	walks := make([]*walk, []int{12, 3}[seed%2])
	for i := range walks {
		r := rand.New(rand.NewPCG(seed, 200+uint64(i)))
		w := &walk{channels: someChannels(r)}
		if seed%2 == 1 { // so that most channels have no reader for most of the time
			w.channels = w.channels[:1]
		}
		walks[i] = w
		readers.Go(func() { w.read(t, nodes, r, finish) })
	}
	senders.Wait()
	close(finish)
	readers.Wait()
	for _, w := range walks {
		var want []bus.ID
		for _, n := range m.rows {
			if slices.Contains(w.channels, n.Channel) {
				want = append(want, n.ID)
			}
		}
		if !slices.Equal(w.got, want) {
			t.Errorf("a reader of %v got %d notifications, %d were committed; missing %v", w.channels, len(w.got), len(want), without(want, w.got))
		}
	}
	if seed%2 == 1 && m.hollows < 100 {
		t.Errorf("only %d rows were left out", m.hollows)
	}
	if len(m.rows) < 200 {
		t.Errorf("only %d messages were committed", len(m.rows))
	}
}

// without returns those of ids that are not among others.
func without(ids, others []bus.ID) []bus.ID {
	return slices.DeleteFunc(slices.Clone(ids), func(id bus.ID) bool { return slices.Contains(others, id) })
}

const channelCount = 9

func channelNamed(i int) string { return string(rune('a' + i)) }

func someChannels(r *rand.Rand) []string {
	var channels []string
	for _, i := range r.Perm(channelCount)[:1+r.IntN(channelCount)] {
		channels = append(channels, channelNamed(i))
	}
	return channels
}

// sendAtRandom runs transactions of one to three messages, with pauses everywhere.
func sendAtRandom(m *model, r *rand.Rand, transactions int) {
	pause := func(most time.Duration) { time.Sleep(time.Duration(r.Int64N(int64(most)))) }
	for range transactions {
		x := m.begin().lock()
		pause(time.Millisecond)
		for range 1 + r.IntN(3) {
			// Low channels are busy, high ones quiet.
			channel := channelNamed(min(r.IntN(channelCount), r.IntN(channelCount)))
			x.insert(&bus.Notification{Channel: channel, JSON: string(make([]byte, r.IntN(200)))})
			pause(2 * time.Millisecond)
		}
		x.look()
		x.prepare(r.IntN(8) == 0)
		pause([]time.Duration{time.Millisecond, 15 * time.Millisecond, 60 * time.Millisecond}[r.IntN(3)])
		if r.IntN(6) == 0 {
			x.rollback()
		} else {
			x.publish()
			pause(time.Millisecond)
			x.release()
		}
		pause([]time.Duration{time.Millisecond, 10 * time.Millisecond, 400 * time.Millisecond}[r.IntN(3)])
	}
}

// restartAtRandom ends all connections again and again, and what is not prepared.
func restartAtRandom(m *model, r *rand.Rand, times int) {
	for range times {
		time.Sleep(time.Duration(r.Int64N(int64(400 * time.Millisecond))))
		m.restart()
	}
}

// offerAtRandom commits batches and offers them to d, not always in their order, now
// and then never.
func offerAtRandom(m *model, d *Dispatcher, r *rand.Rand, batches int) {
	var offers sync.WaitGroup
	defer offers.Wait()
	for range batches {
		channels := make([]string, 1+r.IntN(5))
		for i := range channels {
			channels[i] = channelNamed(r.IntN(channelCount))
		}
		batch := m.send(channels...)
		if r.IntN(8) > 0 {
			late := time.Duration(r.Int64N(int64(2 * time.Millisecond)))
			offers.Go(func() {
				time.Sleep(late)
				d.Offer(batch)
			})
		}
		time.Sleep(time.Duration(r.Int64N(int64(8 * time.Millisecond))))
	}
}

// A walk is one reader's, over any number of subscriptions.
type walk struct {
	channels []string
	got      []bus.ID
	last     bus.ID
}

// read reads until, after finish, a second passes without anything.
func (w *walk) read(t *testing.T, nodes []*Dispatcher, r *rand.Rand, finish chan struct{}) {
	for {
		d := nodes[r.IntN(len(nodes))]
		s, err := d.Subscribe(t.Context(), w.channels, &w.last)
		if err != nil {
			t.Errorf("Subscribe: %v", err)
			return
		}
		if r.IntN(2) == 0 { // the window moves on before the first Next
			time.Sleep(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
		}
		for range 1 + r.IntN(10) {
			var finished bool
			select {
			case <-finish:
				finished = true
			default:
			}
			limit, wait := 1+r.IntN(7), time.Duration(r.Int64N(int64(30*time.Millisecond)))
			if r.IntN(4) == 0 {
				wait = 0
			}
			if finished {
				wait = time.Second
			}
			b, err := w.next(t, s, limit, wait, r)
			if err != nil {
				t.Errorf("Next or Ride: %v", err)
				return
			}
			if !w.take(t, b, limit) {
				return
			}
			if heartbeat := s.Last(); heartbeat < w.last {
				t.Errorf("Last went back from %d to %d", w.last, heartbeat)
			}
			if finished && b.Empty() {
				s.Close()
				return
			}
			if r.IntN(6) == 0 { // stalls
				time.Sleep(time.Duration(r.Int64N(int64(80 * time.Millisecond))))
			}
		}
		if r.IntN(2) == 0 { // a heartbeat before the drop
			w.last = s.Last()
		}
		s.Close()
	}
}

// next reads, or rides for as long as nothing else is to be done; a carrier may stall.
func (w *walk) next(t *testing.T, s *Subscription, limit int, wait time.Duration, r *rand.Rand) (Batch, error) {
	if r.IntN(2) == 0 {
		return s.Next(t.Context(), limit, wait)
	}
	return s.Ride(t.Context(), limit, wait, Carrier{Peer: r.Uint64(), Carry: func(b *Batch) error {
		if !w.take(t, *b, limit) {
			return errModel
		}
		if r.IntN(20) == 0 {
			time.Sleep(time.Duration(r.Int64N(int64(40 * time.Millisecond))))
		}
		return nil
	}})
}

func (w *walk) take(t *testing.T, b Batch, limit int) bool {
	if b.Gap != nil || len(b.Notifications) > limit || b.Last < w.last {
		t.Errorf("gap %+v, %d notifications of at most %d, last %d after %d", b.Gap, len(b.Notifications), limit, b.Last, w.last)
		return false
	}
	for _, n := range b.Notifications {
		if n.ID <= w.last {
			t.Errorf("%d comes after the cursor %d", n.ID, w.last)
			return false
		}
		w.last = n.ID
		w.got = append(w.got, n.ID)
	}
	w.last = b.Last
	return true
}

// TestOfferedBatchesInAnyOrder offers batches of which the lower ones come later, twice,
// or never.
func TestOfferedBatchesInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		s := subscribe(t, d, nil, "a")
		asleep(t, d)
		one, two, three := m.begin(), m.begin(), m.begin() // none looks at the bell
		for _, x := range []*transaction{one, two, three} {
			x.insert(&bus.Notification{Channel: "a"})
			x.commit()
		}
		d.Offer(three.rows)
		d.Offer(two.rows)
		expectNothing(t, s, 0)
		d.Offer(one.rows)
		d.Offer(two.rows)
		expect(t, s, 0, 1, 2, 3)
		if n, _ := kept(d); n != 0 {
			t.Errorf("%d offers are kept for nothing", n)
		}
	})
}

// TestOffersAboveAGapAreBounded offers more than is kept; the tail has the rest.
func TestOffersAboveAGapAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "last")
		gap := m.begin()
		gap.insert(&bus.Notification{Channel: "a"})
		for range earlyBound + 10 {
			d.Offer(m.send("a"))
		}
		if n, _ := kept(d); n != earlyBound {
			t.Errorf("%d offers are kept above a gap, want %d", n, earlyBound)
		}
		last := m.send("last")
		gap.commit()
		expect(t, s, time.Minute, last[0].ID)
		if n, _ := kept(d); n != 0 {
			t.Errorf("%d offers are kept for nothing", n)
		}
	})
}

// TestOffersAboveAGapAreBoundedInBytes by what the window may hold; offered twice they
// count once.
func TestOffersAboveAGapAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 10_000})
		s := subscribe(t, d, nil, "a")
		gap := m.begin()
		gap.insert(&bus.Notification{Channel: "a"}) // 1
		want := []bus.ID{1}
		for id := range bus.ID(50) {
			x := m.begin()
			x.insert(&bus.Notification{Channel: "a", JSON: string(make([]byte, 743))}) // 1,000 in all
			x.commit()
			d.Offer(x.rows)
			d.Offer(x.rows)
			want = append(want, id+2)
		}
		if n, _ := kept(d); n != 10 {
			t.Errorf("%d offers of 1,000 bytes are kept above a gap, want 10", n)
		}
		gap.commit()
		expect(t, s, time.Minute, want...)
		if n, _ := kept(d); n != 0 || d.early.bytes != 0 {
			t.Errorf("%d offers are kept for nothing, counted as %d bytes", n, d.early.bytes)
		}
	})
}
