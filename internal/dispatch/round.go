package dispatch

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A round is the subscriptions that ride and have something to be given, in the order in
// which they were woken. One goroutine serves them, the courier: to wake a goroutine for
// each costs more than to send. It exists while somebody is due. A Dispatcher has as many
// rounds as processors.
//
// A courier that one Subscription holds up is replaced: it keeps that one, until its
// Carry returns, and everybody else is another's.
type round struct {
	rung []*Subscription // marked, and to be rung at once; under the Dispatcher's lock

	mu       sync.Mutex
	queue    []*Subscription // queue[next:] are due, or were taken off again
	next     int
	left     []*Subscription // of a courier that was replaced: served, with their batches
	courier  *courier        // nil: nobody is due
	watching *time.Timer     // runs while there is a courier
	stalled  int64           // how often a courier was replaced
}

// A courier is one goroutine on a round. It takes a handful of subscriptions at a time,
// and for all of them one look at the window.
type courier struct {
	hand []*Subscription // under the round's lock; once replaced, the one that it keeps
	tray tray

	// Which of the hand is being served, or one of the below. The courier moves on, and
	// watch takes it away, by compare and swap: whoever is first has the rest of the hand.
	at atomic.Int32

	// Under the round's lock.
	turns int
	seen  [2]int // turns and at, when watch last looked
	looks int    // how often watch has found it there
}

const (
	looking  int32 = -1 // at the window, or not begun yet
	replaced int32 = -2

	handful = 32

	// A courier that watch finds at the same Subscription so many times is replaced:
	// after 10 to 15 ms.
	watchEvery = 5 * time.Millisecond
	watchLooks = 3
)

// ring tells the round that subs may have something to be given.
func (r *round) ring(subs ...*Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range subs {
		switch s.seat {
		case off:
			s.knock()
		case parked:
			r.addLocked(s)
		case served:
			s.again = true
		}
	}
}

// addLocked makes s due, and sees that there is a courier.
func (r *round) addLocked(s *Subscription) {
	s.seat = due
	if r.next > 1024 && r.next > len(r.queue)/2 {
		rest := copy(r.queue, r.queue[r.next:])
		clear(r.queue[rest:])
		r.queue, r.next = r.queue[:rest], 0
	}
	r.queue = append(r.queue, s)
	if r.courier != nil {
		return
	}
	r.sendLocked()
	if r.watching == nil {
		r.watching = time.AfterFunc(watchEvery, r.watch)
	}
}

// sendLocked sends a courier, in the place of the one that there may be.
func (r *round) sendLocked() {
	r.courier = newCourier()
	go r.walk(r.courier)
}

// newCourier returns a courier that serves nobody until it runs, which on a busy machine
// may be after watch has looked at it.
func newCourier() *courier {
	c := new(courier)
	c.at.Store(looking)
	return c
}

// walk is a courier's goroutine.
func (r *round) walk(c *courier) {
	for hand := r.turn(c); len(hand) > 0; hand = r.turn(c) {
		hand[0].d.pick(hand, &c.tray)
		for i, s := range hand {
			if !c.at.CompareAndSwap(int32(i)-1, int32(i)) {
				break
			}
			s.deliver()
		}
	}
}

// turn puts those whom c has served where they belong, and returns the next handful:
// nobody when nobody is due, or c was replaced.
func (r *round) turn(c *courier) []*Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.courier != c {
		s := c.hand[0]
		s.walks = time.Now().Add(walkAfterDelay)
		s.seat = off
		s.knock()
		return nil
	}
	r.seatLocked(c.hand)
	c.hand = append(c.hand[:0], r.left...)
	r.left = nil
	for ; r.next < len(r.queue) && len(c.hand) < handful; r.next++ {
		s := r.queue[r.next]
		r.queue[r.next] = nil
		if s.seat == due { // else its owner has taken it off
			s.seat, s.again = served, false
			c.hand = append(c.hand, s)
		}
	}
	if len(c.hand) == 0 {
		r.queue, r.next = r.queue[:0], 0
		r.courier = nil
	}
	c.turns++
	c.at.Store(looking)
	return c.hand
}

// seatLocked puts those who were served where they belong.
func (r *round) seatLocked(subs []*Subscription) {
	if len(subs) == 0 {
		return
	}
	now := time.Now()
	for _, s := range subs {
		s.carried = now
		switch {
		case !s.rides || s.wanted:
			s.seat = off
			s.knock()
		case s.again || s.more:
			r.addLocked(s)
		default:
			s.seat = parked
		}
	}
}

// watch looks after the courier.
func (r *round) watch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchLocked()
}

// watchLocked replaces the courier when a Subscription holds it up, and looks again while
// there is one. One that a busy machine has not let begin is not replaced: it holds nobody
// (TestCourierThatHasNotBegunIsNotReplaced).
func (r *round) watchLocked() {
	c := r.courier
	if c == nil {
		r.watching = nil
		return
	}
	at := c.at.Load()
	c.looks++
	if where := [2]int{c.turns, int(at)}; where != c.seen {
		c.seen, c.looks = where, 1
	}
	if at >= 0 && c.looks >= watchLooks && c.at.CompareAndSwap(at, replaced) {
		r.replaceLocked(c.hand[:at], c.hand[at+1:])
		c.hand = c.hand[at : at+1]
	}
	r.watching.Reset(watchEvery)
}

// replaceLocked sends another courier in the place of one that has served some, and gives
// it the rest, with their batches.
func (r *round) replaceLocked(some, rest []*Subscription) {
	r.stalled++
	r.sendLocked()
	r.seatLocked(some)
	var of, same *Batch
	for _, s := range rest {
		if s.batch != nil && s.batch != of { // the other may be making Forms of what it keeps
			of, same = s.batch, newCarried()
			same.Notifications, same.Last = of.Notifications, of.Last
		}
		if s.batch != nil {
			s.batch = same
		}
	}
	r.left = slices.Clone(rest)
}

func (r *round) stalls() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stalled
}
