package dispatch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestStalledReaderCatchesUpFromTheTable: a reader that stalls while the window moves on
// reads pages until it meets the window; the window stays within its bytes, and nobody
// else waits.
func TestStalledReaderCatchesUpFromTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 20 << 10
		m := newModel()
		d := start(t, m, Options{WindowBytes: bound})
		stalled := subscribe(t, d, nil, "a", "b")
		awake := subscribe(t, d, nil, "a")
		var want []bus.ID
		for i := range bus.ID(500) {
			want = append(want, m.send([]string{"a", "b"}[i%2])[0].ID)
			if i%2 == 0 {
				expect(t, awake, time.Second, i+1)
			}
			if st := d.State(); st.WindowBytes > bound {
				t.Fatalf("the window has %d bytes, at most %d", st.WindowBytes, bound)
			}
		}
		if _, _, pages := m.counted(); pages != 0 {
			t.Errorf("%d pages for the reader that keeps up", pages)
		}
		expect(t, stalled, time.Second, want...)
		if _, _, pages := m.counted(); pages < 4 || pages > 6 {
			t.Errorf("%d pages of 100 for 500 messages, of which the window has some", pages)
		}
		m.send("b")
		expect(t, stalled, time.Second, 501)
		if _, _, pages := m.counted(); pages > 6 {
			t.Error("it has met the window and still reads pages")
		}
	})
}

// TestQuietReaderCostsNoQuery: an hour of other channels' messages moves a tiny window
// far past a quiet reader; its message then comes from memory.
func TestQuietReaderCostsNoQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1 << 10})
		s := subscribe(t, d, nil, "quiet", "quieter")
		for range 3600 {
			d.Offer(m.send("busy"))
			time.Sleep(time.Second)
		}
		m.send("quiet")
		if last := expect(t, s, promptly, 3601); last != 3601 {
			t.Errorf("last %d, want 3601", last)
		}
		if _, _, pages := m.counted(); pages != 0 {
			t.Errorf("%d pages, want none", pages)
		}
	})
}

// TestManyOldCursorsCostOneRead: polls with one old cursor on a quiet channel read the
// table once, one after another; and when they all come at once, once for each turn. An
// even older cursor makes it two.
func TestManyOldCursorsCostOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.send("quiet", "quiet", "other")
		m.floor = 3 // so that the node has seen nothing of the quiet channel
		d := start(t, m, Options{WindowBytes: 1, PageReaders: 4})
		for range 50 {
			m.send("other")
		}
		time.Sleep(time.Second)
		poll := func(after bus.ID) {
			s, err := d.Subscribe(t.Context(), []string{"quiet"}, &after)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if b, err := s.Next(t.Context(), 10, 0); err != nil || !b.Empty() || b.Last != 53 {
				t.Errorf("%+v, %v", b, err)
			}
		}
		for range 5000 {
			poll(10)
		}
		if _, _, pages := m.counted(); pages != 1 {
			t.Errorf("5,000 polls cost %d pages", pages)
		}
		for range 5000 {
			poll(5)
		}
		if _, _, pages := m.counted(); pages != 2 {
			t.Errorf("5,000 polls with an older cursor make it %d pages", pages)
		}
		m.pages = 0
		var polls sync.WaitGroup
		for range 5000 {
			polls.Go(func() { poll(3) })
		}
		polls.Wait()
		if _, _, pages := m.counted(); pages < 1 || pages > 4 || m.mostReading > 4 {
			t.Errorf("5,000 polls at once cost %d pages, %d at once; at most 4", pages, m.mostReading)
		}
		m.send("quiet")
		for _, after := range []bus.ID{10, 5, 3} {
			s := subscribe(t, d, &after, "quiet")
			expect(t, s, time.Second, 54)
		}
	})
}

// TestPageReadersAreBounded: readers of different channels wait for their turn, and one
// that goes away while it waits takes none.
func TestPageReadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		for i := range channelCount {
			m.send(channelNamed(i))
		}
		d := start(t, m, Options{WindowBytes: 1, PageReaders: 2})
		m.send("x")
		time.Sleep(time.Second)
		stall := make(chan struct{})
		m.beforePage = func(ctx context.Context, _ PageRequest) error {
			select {
			case <-stall:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var readers sync.WaitGroup
		for i := range channelCount {
			readers.Go(func() {
				s := subscribe(t, d, at(0), channelNamed(i))
				if b, err := s.Next(t.Context(), 10, 0); err != nil || len(b.Notifications) != 1 {
					t.Errorf("%+v, %v", b, err)
				}
			})
		}
		synctest.Wait()
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := subscribe(t, d, at(0), "a")
		if _, err := s.Next(gone, 10, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next: %v, want %v", err, context.DeadlineExceeded)
		}
		if m.reading != 2 {
			t.Errorf("%d reads at once, want 2", m.reading)
		}
		close(stall)
		readers.Wait()
		if m.mostReading != 2 {
			t.Errorf("%d reads at once, at most 2", m.mostReading)
		}
		expect(t, s, time.Second, 1)
	})
}

// TestFailedPageIsUnavailable and is no end: the next call goes on where it stood.
func TestFailedPageIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.send("a", "b")
		d := start(t, m, Options{WindowBytes: 1})
		m.send("a", "b")
		time.Sleep(time.Second)
		s := subscribe(t, d, at(0), "a")
		m.beforePage = func(context.Context, PageRequest) error { return errModel }
		for range 3 {
			b, err := s.Next(t.Context(), 10, time.Minute)
			if !errors.Is(err, bus.ErrUnavailable) || !errors.Is(err, errModel) {
				t.Errorf("Next: %v, want %v with its cause", err, bus.ErrUnavailable)
			}
			if b.Last != 0 || !b.Empty() {
				t.Errorf("%+v of a failed read", b)
			}
		}
		m.beforePage = nil
		expect(t, s, time.Second, 1, 3)
	})
}

// TestBatchesAreCutNearOneMiB, from the window and from the table, and hold at least one.
func TestBatchesAreCutNearOneMiB(t *testing.T) {
	for name, window := range map[string]int{"window": 64 << 20, "table": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				d := start(t, m, Options{WindowBytes: window})
				for _, size := range []int{900 << 10, 3 << 20, 100, 500 << 10, 500 << 10, 500 << 10, 10} {
					x := m.begin()
					x.insert(&bus.Notification{Channel: "a", JSON: string(make([]byte, size))})
					x.insert(&bus.Notification{Channel: "b", JSON: "1"})
					x.commit()
				}
				time.Sleep(2 * time.Second)
				s := subscribe(t, d, at(0), "a")
				var got []bus.ID
				for len(got) < 7 {
					b := next(t, s, 100, time.Second)
					bytes := 0
					for _, n := range b.Notifications {
						bytes += n.Size()
					}
					if len(b.Notifications) == 0 || len(b.Notifications) > 1 && bytes > batchBytes {
						t.Fatalf("a batch of %d notifications, %d bytes", len(b.Notifications), bytes)
					}
					if last := b.Notifications[len(b.Notifications)-1].ID; len(got)+len(b.Notifications) < 7 && b.Last != last {
						t.Errorf("last %d of a cut batch, want %d", b.Last, last)
					}
					got = append(got, idsOf(b.Notifications)...)
				}
				for i, id := range got {
					if id != bus.ID(2*i+1) {
						t.Fatalf("got %v", got)
					}
				}
			})
		})
	}
}

// TestExpiredIsHidden in the window and in a page, and is no gap.
func TestExpiredIsHidden(t *testing.T) {
	for name, window := range map[string]int{"window": 64 << 20, "table": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				m.lag = 5 * time.Second
				d := start(t, m, Options{WindowBytes: window})
				s := subscribe(t, d, nil, "a")
				x := m.begin()
				x.insert(&bus.Notification{Channel: "a", Expires: time.Now().Add(time.Minute)})
				x.insert(&bus.Notification{Channel: "a", Expires: time.Now().Add(time.Hour)})
				x.insert(&bus.Notification{Channel: "a", Expires: time.Now().Add(time.Minute)})
				x.commit()
				time.Sleep(time.Minute)
				if last := expect(t, s, time.Second, 2); last < 2 {
					t.Errorf("last %d, want 2 at least", last)
				}
				if last := expectNothing(t, s, time.Second); last != 3 {
					t.Errorf("last %d, want 3", last)
				}
				expect(t, subscribe(t, d, at(0), "a"), time.Second, 2)
			})
		})
	}
}
