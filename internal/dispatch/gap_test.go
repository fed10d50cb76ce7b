package dispatch

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestTrimmedIsTold to every cursor below what retention took, however many ask before,
// and never to one that asks for the oldest there is.
func TestTrimmedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1})
		stalled := subscribe(t, d, nil, "a")
		for range 30 {
			m.send("a", "b")
		}
		time.Sleep(2 * time.Second)
		m.trim(40)
		for range 3 { // what one page shows the node knows for the next
			expectGap(t, subscribe(t, d, at(10), "gone"), bus.Gap{Reason: bus.Trimmed, After: 10, Until: 40})
		}
		b := expectGap(t, subscribe(t, d, at(10), "a"), bus.Gap{Reason: bus.Trimmed, After: 10, Until: 40})
		if len(b.Notifications) == 0 || b.Notifications[0].ID != 41 {
			t.Errorf("got %v after the gap, want 41 and on", idsOf(b.Notifications))
		}
		expect(t, subscribe(t, d, at(0), "a"), time.Second, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59)
		expectNothing(t, subscribe(t, d, at(0), "gone"), time.Second)
		expect(t, subscribe(t, d, at(40), "a"), time.Second, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59)
		expectGap(t, stalled, bus.Gap{Reason: bus.Trimmed, After: 0, Until: 40})
	})
}

// TestTrimmedIsToldToAStreamFromTheOldest when it has begun to read and then stalls.
func TestTrimmedIsToldToAStreamFromTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1 << 10})
		s := subscribe(t, d, at(0), "a") // the window has everything: no page is read
		m.send("a")
		expect(t, s, time.Second, 1)
		for range 50 {
			m.send("a")
		}
		time.Sleep(time.Second)
		m.trim(40)
		expectGap(t, s, bus.Gap{Reason: bus.Trimmed, After: 1, Until: 40})
	})
}

// TestAheadIsTold to a cursor above every id that the database gave; it goes on from the
// present position.
func TestAheadIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		m.send("a", "a")
		time.Sleep(time.Second)
		s := subscribe(t, d, at(99), "a")
		expectGap(t, s, bus.Gap{Reason: bus.Ahead, After: 2, Until: 2})
		m.send("a")
		expect(t, s, time.Second, 3)
		m.down = true
		refused(t, d, at(99)) // nobody can say
	})
}

// TestCursorAMomentAheadWaits: an id that another node gave a moment ago is no gap, and
// nothing up to it is given again.
func TestCursorAMomentAheadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		asleep(t, d)
		for range 3 { // another node has offered them to itself; this one is asleep
			x := m.begin()
			x.insert(&bus.Notification{Channel: "a"})
			x.commit()
		}
		s := subscribe(t, d, at(2), "a")
		b := next(t, s, 10, 0)
		if !b.Empty() || b.Last != 2 {
			t.Errorf("%+v, want nothing and last 2", b)
		}
		m.send("a")
		expect(t, s, time.Second, 3, 4)
	})
}

// TestWidestGapOfSeveral: what retention and a failover took is told at once.
func TestWidestGapOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1})
		for range 10 {
			m.send("a")
		}
		time.Sleep(2 * time.Second)
		past := m.failover(8)
		m.send("a", "b")
		time.Sleep(5 * time.Second)
		m.trim(8)
		s := subscribe(t, d, at(4), "a")
		b := expectGap(t, s, bus.Gap{Reason: bus.History, After: 4, Until: past.Until})
		if len(b.Notifications) == 0 {
			expect(t, s, time.Second, past.Until+1)
		}
	})
}

// TestTrimmedBeforeTheNodeReadItIsTold: retention goes by the floor of any node. What it
// takes before this one has read it, cut off or only slow, is told to everyone here.
func TestTrimmedBeforeTheNodeReadItIsTold(t *testing.T) {
	for name, away := range map[string]func(m *model, meanwhile func()){
		"cut off": func(m *model, meanwhile func()) {
			m.mu.Lock()
			m.down = true
			m.restartLocked()
			m.mu.Unlock()
			meanwhile()
			m.mu.Lock()
			m.down = false
			m.mu.Unlock()
		},
		"slow": func(m *model, meanwhile func()) {
			hold, held := make(chan struct{}), make(chan struct{})
			m.mu.Lock()
			once := sync.OnceFunc(func() { close(held); <-hold })
			m.beforeCall = func(call string) {
				if call == "Read" {
					once()
				}
			}
			m.mu.Unlock()
			<-held
			meanwhile()
			close(hold)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				d := start(t, m, Options{})
				m.send("a", "b")
				time.Sleep(time.Second)
				quiet, read, unread := subscribe(t, d, nil, "q"), subscribe(t, d, nil, "a"), subscribe(t, d, nil, "a")
				rider := startRider(t.Context(), subscribe(t, d, nil, "b"), 0, nil)
				m.send("a", "b")
				expect(t, read, time.Second, 3)
				expectNothing(t, quiet, time.Second)
				away(m, func() {
					m.send("a", "b", "a", "b") // 5 to 8
					m.trim(7)
				})
				m.send("q") // 9
				waitFor(t, "the node", time.Minute, func() bool { return d.State().Pos == 9 })
				for sub, ids := range map[*Subscription][]bus.ID{quiet: {9}, read: nil, unread: nil} {
					b := next(t, sub, 10, time.Minute)
					if b.Gap == nil || b.Gap.Reason != bus.Trimmed || b.Gap.After > 4 || b.Gap.Until != 7 {
						t.Errorf("gap %+v, want one up to 7", b.Gap)
					}
					if len(b.Notifications) == 0 && len(ids) > 0 {
						b = next(t, sub, 10, time.Minute)
					}
					if got := idsOf(b.Notifications); !slices.Equal(got, ids) {
						t.Errorf("got %v behind the gap, want %v", got, ids)
					}
				}
				waitFor(t, "the rider's message", time.Minute, func() bool { ids, _ := rider.ids(); return len(ids) == 2 })
				told := false
				for _, b := range rider.batches {
					told = told || b.Gap != nil && b.Gap.Until == 7
				}
				if ids, _ := rider.ids(); !told || !slices.Equal(ids, []bus.ID{4, 8}) {
					t.Errorf("the rider was given %v, told: %t", ids, told)
				}
				d.Drain()
				<-rider.ended
			})
		})
	}
}

// TestTrimmedWhileCutOffIsToldAtOnce, to who waits as well, though nothing more comes.
func TestTrimmedWhileCutOffIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		m.send("a")
		time.Sleep(time.Second)
		s := subscribe(t, d, nil, "a")
		m.mu.Lock()
		m.down = true
		m.restartLocked()
		m.mu.Unlock()
		m.send("a", "a")
		m.trim(3)
		m.mu.Lock()
		m.down = false
		m.mu.Unlock()
		began := time.Now()
		if b := next(t, s, 10, time.Hour); time.Since(began) > time.Minute || b.Gap == nil || *b.Gap != (bus.Gap{Reason: bus.Trimmed, After: 1, Until: 3}) {
			t.Errorf("gap %+v", b.Gap)
		}
	})
}
