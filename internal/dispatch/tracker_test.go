package dispatch

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestTrackerNeverSettlesWhatMayStillCommit walks a tracker through probes of random
// transactions, which take their lock before their ids and roll back to savepoints in
// between, and compares its floor with what is really open; and it walks through the
// cases that are easily got wrong.
func TestTrackerNeverSettlesWhatMayStillCommit(t *testing.T) {
	t.Run("first probe: a holder may have any id above pos", func(t *testing.T) {
		var tr tracker
		tr.observe([]Holder{{Transaction: "3/1"}}, 9, 5)
		wantFloor(t, &tr, 5)
	})
	t.Run("a newcomer has only ids above what was known before", func(t *testing.T) {
		var tr tracker
		tr.observe(nil, 9, 5)
		wantFloor(t, &tr, 9)
		tr.observe([]Holder{{Transaction: "3/1"}}, 20, 9)
		wantFloor(t, &tr, 9)
	})
	t.Run("a holder keeps its bound until it has gone", func(t *testing.T) {
		var tr tracker
		tr.observe(nil, 9, 5)
		tr.observe([]Holder{{Transaction: "3/1"}}, 20, 9)
		tr.observe([]Holder{{Transaction: "3/1"}, {Transaction: "3/2"}}, 30, 9)
		wantFloor(t, &tr, 9)
		tr.observe([]Holder{{Transaction: "3/2"}}, 40, 9)
		wantFloor(t, &tr, 20)
	})
	t.Run("one that was recovered had another name: pos bounds it", func(t *testing.T) {
		var tr tracker
		tr.observe([]Holder{{Transaction: "3/1"}}, 9, 5)
		tr.observe([]Holder{{Transaction: "-1/7", Recovered: true}}, 20, 5)
		wantFloor(t, &tr, 5)
	})
	t.Run("one that comes back is a newcomer", func(t *testing.T) {
		var tr tracker
		tr.observe([]Holder{{Transaction: "3/1"}}, 9, 5)
		tr.observe(nil, 20, 5)
		tr.observe([]Holder{{Transaction: "3/1"}}, 30, 20)
		wantFloor(t, &tr, 20)
	})
	for seed := range uint64(300) {
		trackAtRandom(t, rand.New(rand.NewPCG(seed, 1)))
	}
}

func wantFloor(t *testing.T, tr *tracker, want bus.ID) {
	t.Helper()
	if tr.floor != want {
		t.Fatalf("floor %d, want %d", tr.floor, want)
	}
}

func trackAtRandom(t *testing.T, r *rand.Rand) {
	t.Helper()
	const most = 6
	var (
		tr            tracker
		given, pos    bus.ID
		visible       = map[bus.ID]bool{}
		ids           [most][]bus.ID // of the transactions that hold the lock
		holds         [most]bool
		names, probes int
		name          [most]string
	)
	act := func() {
		i := r.IntN(most)
		switch k := r.IntN(8); {
		case !holds[i]:
			if holds[i] = true; name[i] == "" || k < 4 { // else the same one, behind its savepoint
				names++
				name[i] = "3/" + strconv.Itoa(names)
			}
		case k < 5:
			given++
			ids[i] = append(ids[i], given)
		case k < 6: // back to the savepoint: the ids are gone, and the lock with them or not
			ids[i], holds[i] = nil, r.IntN(2) == 0
		default:
			for _, id := range ids[i] {
				visible[id] = k == 6
			}
			ids[i], holds[i] = nil, false
		}
	}
	highest := func() (known bus.ID) {
		known = pos
		for id, seen := range visible {
			if seen {
				known = max(known, id)
			}
		}
		return known
	}
	for range 120 {
		for range r.IntN(6) {
			act()
		}
		known := highest()
		for range r.IntN(6) { // between the rows and the holders
			act()
		}
		var holders []Holder
		for i := range holds {
			if holds[i] {
				holders = append(holders, Holder{Transaction: name[i]})
			}
		}
		tr.observe(holders, known, pos)
		probes++
		for i := range ids {
			for _, id := range ids[i] {
				if id <= tr.floor {
					t.Fatalf("probe %d: floor %d, but transaction %s still holds id %d (bounds %v)", probes, tr.floor, name[i], id, tr.bounds)
				}
			}
		}
		pos = max(pos, tr.floor)
	}
	clear(holds[:])
	known := highest()
	tr.observe(nil, known, pos)
	if tr.floor < known {
		t.Fatalf("nobody holds anything, and the floor %d is below %d", tr.floor, known)
	}
}

// TestGapWaitsForItsTransaction keeps an id open while higher ones are committed.
func TestGapWaitsForItsTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, at(0), "a")
		slow := m.begin()
		slow.insert(&bus.Notification{Channel: "a"})
		m.send("a", "a")
		if last := expectNothing(t, s, 10*time.Second); last != 0 {
			t.Errorf("last %d has passed the open id 1", last)
		}
		if st := d.State(); st.Held < 9*time.Second || len(st.Holders) != 1 || st.Pos != 0 || st.Head != 3 {
			t.Errorf("state %+v does not name the holder", st)
		}
		begin := time.Now()
		slow.commit()
		expect(t, s, time.Second, 1, 2, 3)
		if took := time.Since(begin); took > 30*time.Millisecond {
			t.Errorf("the tail went on %v after the commit", took)
		}
		time.Sleep(time.Millisecond)
		if st := d.State(); st.Held != 0 || st.Holders != nil {
			t.Errorf("state %+v still shows a gap", st)
		}
	})
}

// TestRolledBackGapSettles: an id that will never be seen holds nothing up for long.
func TestRolledBackGapSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{Fallback: time.Hour})
		s := subscribe(t, d, at(0), "a")
		asleep(t, d)
		dead := m.begin()
		dead.insert(&bus.Notification{Channel: "a"})
		m.send("a")
		expectNothing(t, s, 1100*time.Millisecond)
		begin := time.Now()
		dead.rollback()
		expect(t, s, time.Second, 2)
		if took := time.Since(begin); took > 30*time.Millisecond {
			t.Errorf("the tail went on %v after the rollback", took)
		}
	})
}

// TestRecoveredPreparedHoldsTheTail: a transaction that was prepared before a restart of
// the server comes back under another name, and its ids are still waited for.
func TestRecoveredPreparedHoldsTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, at(0), "a")
		x := m.begin()
		x.insert(&bus.Notification{Channel: "a"})
		x.prepare(true)
		m.send("a")
		expectNothing(t, s, time.Second)
		m.restart()
		m.send("a", "a")
		expectNothing(t, s, 10*time.Second)
		m.send("a")
		expectNothing(t, s, 10*time.Second)
		if st := d.State(); st.Pos != 0 || len(st.Holders) != 1 || !st.Holders[0].Recovered {
			t.Errorf("state %+v does not name the prepared transaction", st)
		}
		x.commit()
		expect(t, s, time.Second, 1, 2, 3, 4, 5)
	})
}

// TestOneOpenGapDelaysNothingBelow: what is below an open id is delivered at once, and
// of two open ones the higher does not hold the lower back.
func TestOneOpenGapDelaysNothingBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		d := start(t, m, Options{})
		s := subscribe(t, d, at(0), "a")
		low := m.begin()
		low.insert(&bus.Notification{Channel: "a"})
		dead := m.begin()
		dead.insert(&bus.Notification{Channel: "a"})
		m.send("a") // 3
		expectNothing(t, s, time.Second)
		high := m.begin()
		high.insert(&bus.Notification{Channel: "a"}) // 4
		m.send("a")                                  // 5
		low.commit()
		if last := expect(t, s, 50*time.Millisecond, 1); last != 1 {
			t.Errorf("last %d, want 1", last)
		}
		dead.rollback()
		if last := expect(t, s, 50*time.Millisecond, 3); last != 3 {
			t.Errorf("last %d, want 3", last)
		}
		expectNothing(t, s, 10*time.Second)
		high.rollback()
		expect(t, s, 50*time.Millisecond, 5)
	})
}

// TestProbeThenRead is the counter-example to a reader that asks for the holders before
// it reads the rows: the holders show nobody, then a transaction takes 1, another
// commits 2, and the rows show a gap that nobody seems to hold.
func TestProbeThenRead(t *testing.T) {
	for when := range 12 {
		synctest.Test(t, func(t *testing.T) {
			m := newModel()
			d := start(t, m, Options{})
			s := subscribe(t, d, at(0), "a")
			noise := m.begin() // keeps the follower probing
			noise.insert(&bus.Notification{Channel: "a"})
			m.send("a")
			var x *transaction
			calls := 0
			m.mu.Lock()
			m.beforeCall = func(string) {
				if calls++; calls == 20+when {
					x = m.begin()
					x.insert(&bus.Notification{Channel: "a"}) // 3
					m.send("a")                               // 4
					noise.rollback()
				}
			}
			m.mu.Unlock()
			expect(t, s, time.Second, 2)
			expectNothing(t, s, time.Second)
			x.commit()
			expect(t, s, time.Second, 3, 4)
		})
	}
}
