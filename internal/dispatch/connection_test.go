package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestReconnectReadsWhatItMissed kills the connection, asleep and awake, while messages
// come.
func TestReconnectReadsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		s := subscribe(t, d, nil, "a")
		asleep(t, d)
		m.restart()
		m.send("a", "b")
		open := m.begin()
		open.insert(&bus.Notification{Channel: "a"}) // 3
		m.send("a")
		expect(t, s, time.Second, 1)
		m.restart() // 3 is lost
		expect(t, s, time.Second, 4)
		for id := bus.ID(5); id < 25; id++ { // awake
			m.send("a")
			if id%5 == 0 {
				m.restart()
			}
			expect(t, s, time.Second, id)
		}
		if st := d.State(); st.Reconnects < 6 || !st.Connected || st.Err != nil {
			t.Errorf("state %+v after the reconnects", st)
		}
	})
}

// TestDatabaseAwayIsTriedAgain: pauses grow to two seconds and not further.
func TestDatabaseAwayIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		m.mu.Lock()
		m.down = true
		m.mu.Unlock()
		m.restart()
		m.send("a")
		expectNothing(t, s, time.Minute)
		if st := d.State(); st.Connected || st.Err == nil || st.Reconnects < 20 || st.Reconnects > 60 {
			t.Errorf("state %+v after a minute without a database", st)
		}
		m.mu.Lock()
		m.down = false
		m.mu.Unlock()
		expect(t, s, 3*maxPause, 1)
	})
}

// TestDeafConnectionIsNoticedWithin5s, whether nothing comes or open gaps wake the node
// now and then; what comes meanwhile is found by the fallback.
func TestDeafConnectionIsNoticedWithin5s(t *testing.T) {
	t.Run("quiet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newModel()
			d := start(t, m, Options{Fallback: time.Hour})
			s := subscribe(t, d, nil, "a")
			asleep(t, d)
			time.Sleep(10 * time.Second)
			begin := time.Now()
			m.eachTail(func(t *modelTail) { t.deaf = true })
			m.send("a")
			expect(t, s, 5*time.Second+promptly, 1)
			waitFor(t, "reconnect", time.Until(begin.Add(5*time.Second)), func() bool { return d.State().Reconnects == 1 })
		})
	})
	t.Run("with gaps", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newModel()
			d := start(t, m, Options{})
			asleep(t, d)
			begin := time.Now()
			m.eachTail(func(t *modelTail) { t.deaf = true })
			for time.Since(begin) < 5*time.Second {
				x := m.begin()
				x.insert(&bus.Notification{Channel: "a"})
				m.send("a")
				time.Sleep(1100 * time.Millisecond) // the fallback read finds the gap
				x.rollback()
				time.Sleep(100 * time.Millisecond) // time to fall asleep
			}
			if d.State().Reconnects == 0 {
				t.Errorf("nobody noticed for %v; %+v", time.Since(begin), d.State())
			}
		})
	})
}

// TestFrozenReadsReconnect: a connection that answers no more is given up.
func TestFrozenReadsReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		asleep(t, d)
		m.eachTail(func(t *modelTail) { t.frozen = true })
		m.send("a")
		expect(t, s, 5*time.Second, 1)
		if st := d.State(); st.Reconnects != 1 {
			t.Errorf("%d reconnects, want 1", st.Reconnects)
		}
	})
}

// TestNotReadyBeforeTheStartIsSettled: "from now on" is refused until everything that was
// committed before the start is settled; a cursor waits.
func TestNotReadyBeforeTheStartIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		open := m.begin()
		open.insert(&bus.Notification{Channel: "a"})
		m.send("a")
		d := run(t, m, Options{})
		time.Sleep(10 * time.Second)
		if st := d.State(); st.Ready || !st.Connected {
			t.Errorf("state %+v while 1 is open", st)
		}
		refused(t, d, nil)
		refused(t, d, at(1<<40)) // ahead: there is no present position yet
		s := subscribe(t, d, at(0), "a")
		open.commit()
		<-d.Ready()
		expect(t, s, time.Second, 1, 2)
		m.send("a")
		now := subscribe(t, d, nil, "a")
		expect(t, s, time.Second, 3)
		m.send("a")
		expect(t, s, time.Second, 4)
		if b := next(t, now, 10, time.Second); len(b.Notifications) == 0 || b.Notifications[0].ID < 3 {
			t.Errorf("a reader from now on got %v", idsOf(b.Notifications))
		}
	})
}

// TestCursorFromBeforeTheStart: a reader that subscribes while the node has not yet
// reached its database gets what is below the floor that the node starts from.
func TestCursorFromBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.send("a", "b", "a")
		m.floor = 3
		m.down = true
		d := run(t, m, Options{})
		early := subscribe(t, d, at(0), "a")
		expectNothing(t, early, time.Second)
		m.mu.Lock()
		m.down = false
		m.mu.Unlock()
		begin := time.Now()
		expect(t, early, time.Minute, 1, 3)
		if took := time.Since(begin); took > 2*maxPause {
			t.Errorf("it was told after %v", took)
		}
		m.send("a")
		expect(t, early, time.Second, 4)
	})
}
