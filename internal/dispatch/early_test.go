package dispatch

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestNothingIsReadTwice: what was offered or read above a gap is not sent again, but for the
// highest, while the gap is open, nor when it closes.
func TestNothingIsReadTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		gap := m.begin()
		gap.insert(&bus.Notification{Channel: "a"}) // 1
		m.send("a", "a")
		for range 10 {
			d.Offer(m.send("a", "a"))
			m.send("a")
			expectNothing(t, s, 20*time.Millisecond)
		}
		gap.commit()
		var all []bus.ID
		for id := range bus.ID(33) {
			all = append(all, id+1)
		}
		expect(t, s, time.Second, all...)
		m.mu.Lock()
		defer m.mu.Unlock()
		for id := range bus.ID(30) {
			if n := m.sent[id+1]; id > 0 && n > 12 { // the highest at the time, for 20 ms
				t.Errorf("%d was read %d times", id+1, n)
			}
		}
		if n := m.sent[4]; n != 0 {
			t.Errorf("4 was offered, and read %d times", n)
		}
		if n := m.sent[2]; n != 1 {
			t.Errorf("2 was read %d times, want once", n)
		}
	})
}

// TestHeldAboveACutIsNotReached: the rows between what one read shows and what is held are
// yet to be read, though no transaction may commit there any more.
func TestHeldAboveACutIsNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		gap := m.begin()
		gap.insert(&bus.Notification{Channel: "a"}) // 1
		var want []bus.ID
		x, void, own := m.begin(), m.begin(), m.begin()
		for range 3 * readRows {
			want = append(want, x.insert(&bus.Notification{Channel: "a"}))
		}
		void.insert(&bus.Notification{Channel: "a"})
		want = append(want, own.insert(&bus.Notification{Channel: "a"}))
		void.rollback()
		x.commit()
		own.commit()
		d.Offer(own.rows)
		expectNothing(t, s, 20*time.Millisecond)
		gap.rollback()
		expect(t, s, time.Second, want...)
	})
}

// TestTrimmedBelowWhatIsHeldIsTold, though nothing of what the read shows is new.
func TestTrimmedBelowWhatIsHeldIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		m.send("a")
		expect(t, s, time.Second, 1)
		m.mu.Lock()
		stop := make(chan struct{})
		m.beforeCall = func(string) { <-stop } // cut off, but for its Offer
		m.mu.Unlock()
		m.send("a", "a", "a") // 2 to 4
		own := m.send("a", "a")
		m.trim(4)
		d.Offer(own)
		close(stop)
		expectGap(t, s, bus.Gap{Reason: bus.Trimmed, After: 1, Until: 4})
	})
}

// TestHeldThatIsGoneHoldsNothingUp: the highest of what was read above a gap has expired, and
// was swept by another node that is further.
func TestHeldThatIsGoneHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		gap := m.begin()
		gap.insert(&bus.Notification{Channel: "a"}) // 1
		m.send("a", "a", "b")
		expectNothing(t, s, 50*time.Millisecond)
		m.mu.Lock()
		m.rows = m.rows[:2]
		m.mu.Unlock()
		gap.rollback()
		expect(t, s, time.Second, 2, 3)
	})
}

// TestEarlyKeepsItsOrder, whatever the order of the offers.
func TestEarlyKeepsItsOrder(t *testing.T) {
	var e early
	for _, id := range []bus.ID{7, 9, 3, 8, 3, 20, 4, 9} {
		e.keep(&bus.Notification{ID: id}, 1<<20)
	}
	if got := idsOf(e.held(1)); !slices.Equal(got, []bus.ID{3, 4, 7, 8, 9, 20}) {
		t.Errorf("held %v", got)
	}
	if e.take(2) != nil || e.take(3).ID != 3 {
		t.Error("only the lowest may be taken, and only at its place")
	}
	e.drop(8)
	e.keep(&bus.Notification{ID: 1<<32 + 1}, 1<<20)
	if got := idsOf(e.held(1)); !slices.Equal(got, []bus.ID{9, 20}) {
		t.Errorf("held %v, want nothing of the next history", got)
	}
	for _, id := range []bus.ID{9, 20, 1<<32 + 1} {
		e.drop(id)
	}
	if len(e.log) != 0 || e.bytes != 0 {
		t.Errorf("%d are left, counted as %d bytes", len(e.log), e.bytes)
	}
}
