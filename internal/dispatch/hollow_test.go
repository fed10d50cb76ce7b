package dispatch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// hollow returns a model that sends no row that it need not.
func hollow() *model {
	m := newModel()
	m.hollow = func() bool { return true }
	return m
}

// TestLateReaderGetsWhatIsHollow from the table, whatever the window has of its own channel
// and of others, and what comes later from the window.
func TestLateReaderGetsWhatIsHollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := hollow()
		d := start(t, m, Options{})
		other := subscribe(t, d, nil, "other")
		m.send("a")          // 1
		d.Offer(m.send("a")) // 2
		m.send("a", "other") // 3, 4
		expect(t, other, time.Second, 4)
		for after := range bus.ID(3) {
			s := subscribe(t, d, at(after), "a", "other")
			expect(t, s, time.Second, []bus.ID{1, 2, 3, 4}[after:]...)
		}
		s, now := subscribe(t, d, at(3), "a"), subscribe(t, d, nil, "a")
		_, _, pages := m.counted()
		m.send("a", "b", "a") // 5 to 7
		expect(t, s, time.Second, 5, 7)
		expect(t, now, time.Second, 5, 7)
		if _, _, n := m.counted(); n != pages {
			t.Errorf("%d pages for those who need none", n-pages)
		}
	})
}

// TestReaderWhoComesDuringAHollowReadMissesNothing: it begins behind the read's question and
// before its snapshot, with any cursor, for itself or beside another channel.
func TestReaderWhoComesDuringAHollowReadMissesNothing(t *testing.T) {
	for name, channels := range map[string][]string{"alone": {"a"}, "beside one that was asked for": {"asked", "a"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := hollow()
				d := start(t, m, Options{Fallback: time.Hour})
				asked := subscribe(t, d, nil, "asked")
				m.send("a", "asked") // 1, 2
				expect(t, asked, time.Second, 2)
				var late []*Subscription
				m.mu.Lock()
				m.beforeCall = func(call string) {
					if call == "Read" && late == nil {
						late = []*Subscription{subscribe(t, d, nil, channels...), subscribe(t, d, at(1), channels...)}
						m.send("asked", "a", "a") // 3 to 5
					}
				}
				m.mu.Unlock()
				expect(t, asked, time.Second, 3)
				want := []bus.ID{4, 5}
				if len(channels) > 1 {
					want = []bus.ID{3, 4, 5}
				}
				expect(t, late[0], time.Second, want...)
				if len(channels) > 1 {
					want = []bus.ID{2, 3, 4, 5}
				}
				expect(t, late[1], time.Second, want...)
				m.send("a")
				for _, s := range late {
					expect(t, s, time.Second, 6)
				}
			})
		})
	}
}

// TestQuietIsNotSaidOfWhatIsHollow: a channel that was known to be quiet is not once ids were
// left out that may be its own.
func TestQuietIsNotSaidOfWhatIsHollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := hollow()
		m.send("a", "b")
		m.floor = 2
		d := start(t, m, Options{WindowBytes: 1})
		poll := func(want ...bus.ID) {
			t.Helper()
			s := subscribe(t, d, at(1), "a")
			defer s.Close()
			if len(want) == 0 {
				expectNothing(t, s, 0)
			}
			expect(t, s, 0, want...)
		}
		poll() // learns from a page
		poll()
		if _, _, pages := m.counted(); pages != 1 {
			t.Errorf("%d pages for a quiet channel", pages)
		}
		time.Sleep(2 * leftFor)
		m.send("a") // 3
		time.Sleep(2 * time.Second)
		poll(3)
		poll(3)
		time.Sleep(2 * leftFor)
		m.send("b", "a", "b")
		time.Sleep(2 * time.Second)
		poll(3, 5)
	})
}

// TestPolledChannelStaysInTheWindow from one poll to the next, for a minute.
func TestPolledChannelStaysInTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := hollow()
		d := start(t, m, Options{})
		for i := range bus.ID(5) {
			s := subscribe(t, d, at(max(0, 3*i-3)), "a")
			if i > 0 {
				expect(t, s, 0, 3*i-2, 3*i-1)
			}
			s.Close()
			time.Sleep(leftFor / 2)
			m.send("a", "a", "b")
			time.Sleep(leftFor / 3)
		}
		if _, _, pages := m.counted(); pages != 0 {
			t.Errorf("%d pages", pages)
		}
	})
}

// TestEverythingIsReadForManyChannels, until there are few again.
func TestEverythingIsReadForManyChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := hollow()
		d := start(t, m, Options{})
		isHollow := func() bool {
			t.Helper()
			_, before := m.left()
			m.send("nobody's")
			time.Sleep(2 * time.Second)
			_, after := m.left()
			return after > before
		}
		var subs []*Subscription
		for i := range readBound + 1 {
			s, err := d.Subscribe(t.Context(), []string{fmt.Sprint(i)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			subs = append(subs, s)
			if few := i < readBound; i > readBound-3 && isHollow() != few {
				t.Errorf("%d channels: rows are left out: %t", i+1, !few)
			}
		}
		for _, s := range subs {
			s.Close()
		}
		if isHollow() {
			t.Error("rows are left out though many channels were read a moment ago")
		}
		time.Sleep(2 * leftFor)
		if !isHollow() {
			t.Error("everything is read though nobody reads any more")
		}
		if _, topics := kept(d); topics != 1 {
			t.Errorf("%d topics are left, want that of nobody's", topics)
		}
	})
}

// left returns how many rows were sent, and left out.
func (m *model) left() (sent, hollows int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sent), m.hollows
}
