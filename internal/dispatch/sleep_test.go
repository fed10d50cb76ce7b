package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// promptly is how soon a message is delivered after its commit, asleep or not.
const promptly = 25 * time.Millisecond

// TestSleepMissesNothing lays the four steps of a sender (insert, look at the bell,
// become visible, let go of the lock) between the steps of falling asleep in every
// way there is, with a fallback read an hour away.
func TestSleepMissesNothing(t *testing.T) {
	const slots = 8 // calls of the follower, from Arm on, before which a step may be
	for insert := range slots {
		for look := insert; look < slots; look++ {
			for publish := look; publish < slots; publish++ {
				for release := publish; release < slots; release++ {
					synctest.Test(t, func(t *testing.T) { sleepMissesNothing(t, [4]int{insert, look, publish, release}) })
				}
			}
		}
	}
}

func sleepMissesNothing(t *testing.T, slots [4]int) {
	m := newModel()
	d := start(t, m, Options{Fallback: time.Hour})
	s := subscribe(t, d, at(0), "a")
	asleep(t, d)
	m.send("a") // wakes it, so that it falls asleep again
	expect(t, s, time.Second, 1)
	m.send("a")
	expect(t, s, time.Second, 2)

	x := m.begin()
	steps := []func(){func() { x.insert(&bus.Notification{Channel: "a"}) }, x.look, x.publish, x.release}
	call, done := -1, 0
	armed, released := make(chan struct{}), time.Time{}
	m.mu.Lock()
	m.beforeCall = func(name string) {
		if call < 0 && name != "Arm" {
			return
		}
		if call++; call == 0 {
			close(armed)
		}
		for done < 4 && slots[done] <= call {
			steps[done]()
			if done++; done == 4 {
				released = time.Now()
			}
		}
	}
	m.mu.Unlock()
	<-armed
	time.Sleep(100 * time.Millisecond) // it is asleep, or waits for the holder
	m.mu.Lock()
	m.beforeCall = nil
	m.mu.Unlock()
	synctest.Wait()
	for ; done < 4; done++ {
		if steps[done](); done == 3 {
			released = time.Now()
		}
		time.Sleep(3 * time.Millisecond)
	}
	b := next(t, s, 10, promptly)
	if len(b.Notifications) != 1 || b.Notifications[0].ID != 3 {
		t.Fatalf("steps before the calls %v: %v after %v", slots, idsOf(b.Notifications), time.Since(released))
	}
}

// TestSleepersHearEachMessage: at low rates it stays asleep, one read for each bell.
func TestSleepersHearEachMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		s := subscribe(t, d, at(0), "a")
		asleep(t, d)
		before, _, _ := m.counted()
		for id := range bus.ID(50) {
			m.send("a")
			expect(t, s, 2*time.Millisecond, id+1)
			time.Sleep(100 * time.Millisecond)
		}
		if st := d.State(); !st.Sleeping || st.Bells != 50 || st.MissedBells != 0 {
			t.Errorf("state %+v, want asleep with 50 bells", st)
		}
		if after, _, _ := m.counted(); after-before > 55 {
			t.Errorf("%d reads for 50 messages", after-before)
		}
	})
}

// TestRushIsPolled: while messages flow, the bell is not armed and nobody rings.
func TestRushIsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		s := subscribe(t, d, at(0), "a")
		asleep(t, d)
		for id := range bus.ID(500) {
			m.send("a")
			expect(t, s, 5*time.Millisecond, id+1)
			time.Sleep(2 * time.Millisecond)
		}
		if st := d.State(); st.Bells > 3 || st.Sleeping {
			t.Errorf("%d bells in a rush", st.Bells)
		}
		asleep(t, d)
	})
}

// TestFallbackFindsWhatTheBellMissed: a message that nobody rang for comes within the
// fallback, and is counted as missed.
func TestFallbackFindsWhatTheBellMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, at(0), "a")
		asleep(t, d)
		x := m.begin()
		x.insert(&bus.Notification{Channel: "a"})
		x.commit()
		expect(t, s, time.Second+promptly, 1)
		synctest.Wait()
		if st := d.State(); st.MissedBells != 1 || !st.Sleeping {
			t.Errorf("state %+v, want one missed bell, asleep", st)
		}
	})
}

// TestIdleNodeReads about once a second and not more often, for readers or not.
func TestIdleNodeReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		subscribe(t, d, at(0), "a")
		m.send("a")
		asleep(t, d)
		reads, checks, _ := m.counted()
		time.Sleep(time.Minute)
		moreReads, moreChecks, pages := m.counted()
		if n := moreReads - reads; n < 58 || n > 62 {
			t.Errorf("%d reads in an idle minute", n)
		}
		if n := moreChecks - checks; n < 20 || n > 30 {
			t.Errorf("%d checks of the connection in an idle minute", n)
		}
		if pages != 0 {
			t.Errorf("%d pages for nothing", pages)
		}
	})
}

// TestWithoutSessionItPolls: behind a transaction pooler nothing is armed, and nothing is
// late by more than the longest pause.
func TestWithoutSessionItPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.pooled = true
		m.beforeCall = func(call string) {
			if call != "Read" && call != "Holders" && call != "SaveFloor" {
				t.Errorf("%s on a connection without a session", call)
			}
		}
		d := start(t, m, Options{Fallback: time.Hour})
		s := subscribe(t, d, at(0), "a")
		for id := range bus.ID(20) {
			time.Sleep(3 * time.Second)
			m.send("a")
			expect(t, s, restlessly+promptly, id+1)
		}
		if st := d.State(); st.Listening || st.Sleeping {
			t.Errorf("state %+v, want polling", st)
		}
	})
}

// TestFloorIsRecorded at most once a second, before long when nothing follows, and a
// new node begins there.
func TestFloorIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		saves := 0
		m.beforeCall = func(call string) {
			if call == "SaveFloor" {
				saves++
			}
		}
		start(t, m, Options{Fallback: time.Hour})
		for range 500 {
			m.send("a")
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		for range 2 { // the second is too soon after the first to be recorded at once
			m.send("a")
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if m.floor != 502 || saves > 10 {
			t.Errorf("floor %d, want 502, after %d statements", m.floor, saves)
		}
		m.mu.Lock()
		m.beforeCall = nil
		m.mu.Unlock()
		second := start(t, m, Options{})
		if st := second.State(); st.Pos != 502 || st.WindowMessages != 0 {
			t.Errorf("a new node read again what was settled: %+v", st)
		}
	})
}
