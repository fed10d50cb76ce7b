package dispatch

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestLateOfferOfALostHistoryIsLeftOut: a batch that the old server committed, and whose
// answer arrives when the node follows the new one already, at exactly pos + 1.
func TestLateOfferOfALostHistoryIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		for range 8 {
			m.send("a")
		}
		expect(t, s, time.Second, 1, 2, 3, 4, 5, 6, 7, 8)
		late := m.begin()
		late.insert(&bus.Notification{Channel: "a"}) // 9: its commit is lost
		p := m.begin()
		p.insert(&bus.Notification{Channel: "a"}) // 10: survives as a prepared one, and holds the tail at 8
		p.prepare(true)
		past := m.failover(8)
		waitFor(t, "reconnect", time.Minute, func() bool { return d.State().Reconnects > 0 && d.State().Connected })
		d.Offer(late.rows)
		if pos := d.State().Pos; pos != 8 {
			t.Errorf("pos %d after the offer of what was lost, want 8", pos)
		}
		expectNothing(t, s, time.Second)
		p.commit()
		expect(t, s, time.Second, 10)
		b := expectGap(t, s, bus.Gap{Reason: bus.History, After: 8, Until: past.Until})
		m.send("a")
		expect(t, s, time.Second, past.Until+1)
		if len(b.Notifications) != 0 {
			t.Errorf("%v with the gap", idsOf(b.Notifications))
		}
	})
}

// TestEarlyOfferOfALostHistoryIsForgotten: what was offered above a gap is lost, while
// what fills the gap survived. The node has delivered neither, so that it need not go back.
func TestEarlyOfferOfALostHistoryIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, nil, "a")
		for range 8 {
			m.send("a")
		}
		expect(t, s, time.Second, 1, 2, 3, 4, 5, 6, 7, 8)
		other, own := m.begin(), m.begin()
		other.insert(&bus.Notification{Channel: "a"}) // 9
		own.insert(&bus.Notification{Channel: "a"})   // 10
		d.Offer(own.rows)
		synctest.Wait() // nobody reads between the commit of 9 and the failover
		other.publish()
		past := m.failover(9)
		expect(t, s, 5*time.Second, 9)
		expectGap(t, s, bus.Gap{Reason: bus.History, After: 9, Until: past.Until})
		if offers, _ := kept(d); offers != 0 {
			t.Errorf("%d offers of the lost history are kept", offers)
		}
	})
}

// TestHistoryThatBeganUnderALiveNodeIsTold, though the node's connection never broke: by
// `postbus migrate --new-history`, or by another node that had delivered more than there is.
func TestHistoryThatBeganUnderALiveNodeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		m.send("a", "a")
		follows := subscribe(t, d, at(2), "a")
		past := m.beginHistory()
		had := subscribe(t, d, at(5), "a") // was given 5 by a server that is no more
		expectNothing(t, had, time.Second)
		m.send("a")
		lost := bus.Gap{Reason: bus.History, After: 2, Until: past.Until}
		gapThen(t, "had", had, lost, past.Until+1)
		gapThen(t, "follows", follows, lost, past.Until+1)

		// Ids that reach a multiple of 2^32 by themselves are no new history.
		m.mu.Lock()
		m.given = 5<<32 - 1
		m.mu.Unlock()
		m.send("a", "a")
		for _, s := range []*Subscription{had, follows} {
			expect(t, s, 5*time.Second, 5<<32, 5<<32+1)
		}
	})
}

// beginHistory begins a history without a failover; no connection ends.
func (m *model) beginHistory() bus.Past {
	m.mu.Lock()
	defer m.mu.Unlock()
	past := bus.Past{Survived: m.given, Until: bus.ID(len(m.histories)+1)<<32 - 1}
	m.histories = append(slices.Clone(m.histories), past)
	m.given = past.Until
	return past
}
