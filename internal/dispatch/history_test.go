package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestHistoryIsTold to live streams and to cursors from before, after the messages that
// survived and before the new ones.
func TestHistoryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		for range 10 {
			m.send("a")
		}
		subs := map[string]*Subscription{
			"slow":      subscribe(t, d, at(5), "a"), // has not read 6 to 10
			"unread":    subscribe(t, d, at(5), "q"),
			"quiet":     subscribe(t, d, at(0), "q"),      // waits for nothing
			"ahead":     subscribe(t, d, at(0), "a"),      // was given 9 and 10, which are lost
			"prepared":  subscribe(t, d, at(10), "p"),     // 11 will be committed afterwards
			"following": subscribe(t, d, at(10), "a"),     // has everything
			"both":      subscribe(t, d, at(7), "a", "q"), // 8 survived
		}
		expect(t, subs["ahead"], time.Second, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		expectNothing(t, subs["quiet"], time.Second)
		expectNothing(t, subs["following"], time.Second)
		p := m.begin()
		p.insert(&bus.Notification{Channel: "p"}) // 11
		p.prepare(true)

		past := m.failover(8)
		first := past.Until + 1
		m.send("a", "q") // first, first + 1
		waitFor(t, "reconnect", time.Minute, func() bool { return d.State().Reconnects > 0 && d.State().Connected })
		time.Sleep(5 * time.Second)
		if pos := d.State().Pos; pos != 8 {
			t.Fatalf("pos %d while a prepared transaction holds 11, want 8", pos)
		}
		expectNothing(t, subs["quiet"], time.Second)
		expect(t, subs["slow"], time.Second, 6, 7, 8)
		expectNothing(t, subs["slow"], time.Second)
		p.commit()

		lost := bus.Gap{Reason: bus.History, After: 8, Until: past.Until}
		b := next(t, subs["prepared"], 10, time.Second)
		if len(b.Notifications) != 1 || b.Notifications[0].ID != 11 || b.Gap != nil || b.Last != 11 {
			t.Errorf("what was prepared before the failover: %v, gap %v, last %d", idsOf(b.Notifications), b.Gap, b.Last)
		}
		expectGap(t, subs["prepared"], lost)
		for _, name := range []string{"slow", "ahead", "following"} {
			gapThen(t, name, subs[name], lost, first)
		}
		expect(t, subs["both"], time.Second, 8)
		gapThen(t, "both", subs["both"], lost, first, first+1)
		gapThen(t, "unread", subs["unread"], lost, first+1)
		gapThen(t, "quiet", subs["quiet"], lost, first+1)
		cursor := subscribe(t, d, at(3), "a")
		expect(t, cursor, time.Second, 4, 5, 6, 7, 8)
		gapThen(t, "cursor", cursor, lost, first)
		expect(t, subscribe(t, d, at(past.Until), "a"), time.Second, first)
	})
}

// gapThen asserts that s is told gap and is given ids, in one batch or in several.
func gapThen(t *testing.T, name string, s *Subscription, gap bus.Gap, ids ...bus.ID) {
	t.Helper()
	t.Log(name)
	b := expectGap(t, s, gap)
	expect(t, s, time.Second, ids[len(b.Notifications):]...)
	for i, n := range b.Notifications {
		if n.ID != ids[i] {
			t.Errorf("%s: got %v, want %v", name, idsOf(b.Notifications), ids)
		}
	}
}

// TestHistoryIsToldFromTheTable: the boundary lies below the window, in the pages.
func TestHistoryIsToldFromTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1})
		m.send("a", "a", "a")
		time.Sleep(2 * time.Second)
		one := m.failover(3)
		m.send("a", "b")
		time.Sleep(5 * time.Second)
		two := m.failover(one.Until + 1)
		m.send("a", "b")
		time.Sleep(5 * time.Second)
		s := subscribe(t, d, at(1), "a")
		expect(t, s, time.Second, 2, 3)
		gapThen(t, "one", s, bus.Gap{Reason: bus.History, After: 3, Until: one.Until}, one.Until+1)
		gapThen(t, "two", s, bus.Gap{Reason: bus.History, After: one.Until + 1, Until: two.Until}, two.Until+1)

		quiet := subscribe(t, d, at(1), "nothing")
		b := expectGap(t, quiet, bus.Gap{Reason: bus.History, After: 3, Until: two.Until})
		if last := expectNothing(t, quiet, 0); b.Last < two.Until || last != two.Until+2 {
			t.Errorf("last %d, then %d", b.Last, last)
		}
	})
}

// TestHistoryIsToldAtOnce to a stream that waits, though nothing else comes.
func TestHistoryIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		m.send("a", "a")
		s := subscribe(t, d, nil, "quiet")
		asleep(t, d)
		past := make(chan bus.Past, 1)
		time.AfterFunc(time.Minute, func() { past <- m.failover(1) })
		begin := time.Now()
		b := next(t, s, 10, time.Hour)
		if b.Gap == nil || *b.Gap != (bus.Gap{Reason: bus.History, After: 1, Until: (<-past).Until}) {
			t.Errorf("gap %+v", b.Gap)
		}
		if took := time.Since(begin) - time.Minute; took > time.Second {
			t.Errorf("told %v after the failover", took)
		}
	})
}

// TestHistoryIsToldToReadersOfTheTable: one that stands in the middle of the table, and
// one that reads on from the new server before the node knows of the failover. Neither
// has seen 9 and 10, and both are told.
func TestHistoryIsToldToReadersOfTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1})
		for range 10 {
			m.send("a")
		}
		time.Sleep(2 * time.Second)
		stands, reads := subscribe(t, d, at(5), "a"), subscribe(t, d, at(5), "a")
		for _, s := range []*Subscription{stands, reads} {
			if b := next(t, s, 1, 0); len(b.Notifications) != 1 || b.Last != 6 {
				t.Fatalf("%+v", b)
			}
		}
		m.mu.Lock()
		m.down = true
		m.mu.Unlock()
		past := m.failover(8)
		expect(t, reads, time.Second, 7, 8)
		expectNothing(t, reads, time.Second)
		m.mu.Lock()
		m.down = false
		m.mu.Unlock()
		gap := bus.Gap{Reason: bus.History, After: 8, Until: past.Until}
		time.Sleep(5 * time.Second)
		expectGap(t, reads, gap)
		expect(t, stands, time.Second, 7, 8)
		expectGap(t, stands, gap)
	})
}

// TestLostCommitOfAPreparedIsWaitedFor: what this node has delivered once and the new
// server has still prepared comes again to those who have not had it, and only to them.
func TestLostCommitOfAPreparedIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{WindowBytes: 1})
		for range 8 {
			m.send("a")
		}
		x := m.begin()
		x.insert(&bus.Notification{Channel: "a"}) // 9
		x.prepare(true)
		x.commit()
		m.send("a")
		had := subscribe(t, d, at(7), "a")
		expect(t, had, time.Second, 8, 9, 10)
		stands := subscribe(t, d, at(5), "a")
		if b := next(t, stands, 1, 0); len(b.Notifications) != 1 || b.Last != 6 {
			t.Fatalf("%+v", b)
		}
		past := m.failover(8)
		m.revive(x)
		waitFor(t, "reconnect", time.Minute, func() bool { return d.State().Reconnects > 0 && d.State().Connected })
		expect(t, stands, time.Second, 7, 8)
		if last := expectNothing(t, stands, time.Second); last != 8 {
			t.Errorf("last %d has passed 9", last)
		}
		x.commit()
		if b := next(t, stands, 10, time.Second); len(b.Notifications) != 1 || b.Notifications[0].ID != 9 {
			t.Errorf("%+v, want 9", b)
		}
		gap := bus.Gap{Reason: bus.History, After: 8, Until: past.Until}
		expectGap(t, stands, gap)
		if b := expectGap(t, had, gap); len(b.Notifications) != 0 {
			t.Errorf("%v was given twice", idsOf(b.Notifications))
		}
	})
}

// TestHistoryBeganUnderALiveNode: a history that began while the node was following, and
// that it hears of when it connects again, moves nobody back.
func TestHistoryBeganUnderALiveNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		m.send("a", "a")
		m.mu.Lock()
		past := bus.Past{Survived: 2, Until: 1 << 32}
		m.histories, m.given = []bus.Past{past}, past.Until
		m.mu.Unlock()
		m.send("a")
		expect(t, s, time.Second, 1, 2)
		gapThen(t, "following", s, bus.Gap{Reason: bus.History, After: 2, Until: past.Until}, past.Until+1)
		m.restart()
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
			if pos := d.State().Pos; pos != past.Until+1 {
				t.Fatalf("pos went back to %d: a reader from now on would be given what was before", pos)
			}
		}
		expectNothing(t, s, time.Second)
	})
}
