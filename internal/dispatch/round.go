package dispatch

import (
	"sync"
	"time"
)

// A round is the subscriptions that ride and have something to be given, in the order in
// which they were woken. One goroutine serves them, the courier: to wake a goroutine for
// each costs more than to send. It exists while somebody is due. A Dispatcher has as many
// rounds as processors.
//
// A courier that one Subscription holds up is replaced: it keeps that one, until its
// Carry returns, and the rest of the round is another's.
type round struct {
	mu       sync.Mutex
	queue    []*Subscription // queue[next:] are due, or were taken off again
	next     int
	courier  *courier    // nil: nobody is due
	watching *time.Timer // runs while there is a courier
	stalled  int64       // how often a courier was replaced
}

// A courier is one goroutine on a round. The round's lock guards it.
type courier struct {
	served int // how many it has turned to
	seen   int // served, when watch last looked
	looks  int // how often watch has found it at the same one
	clock  time.Time
}

const (
	// A courier that watch finds at the same Subscription so many times is replaced:
	// after 10 to 15 ms.
	watchEvery = 5 * time.Millisecond
	watchLooks = 3
	// clockEvery is how many a courier serves by one reading of the clock.
	clockEvery = 64
)

// ring tells the round that s may have something to be given.
func (r *round) ring(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s.seat {
	case off:
		s.knock()
	case parked:
		r.addLocked(s)
	case served:
		s.again = true
	}
}

// addLocked makes s due.
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
	r.courier = &courier{clock: time.Now()}
	go r.walk(r.courier)
}

// watch replaces the courier when it is held up, and looks again while there is one.
func (r *round) watch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.courier
	if c == nil {
		r.watching = nil
		return
	}
	if c.looks++; c.seen != c.served {
		c.seen, c.looks = c.served, 1
	}
	if c.looks >= watchLooks {
		r.stalled++
		r.sendLocked()
	}
	r.watching.Reset(watchEvery)
}

func (r *round) stalls() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stalled
}

// walk is a courier's goroutine.
func (r *round) walk(c *courier) {
	var t tray
	for s := r.turn(c, nil, false); s != nil; {
		s = r.turn(c, s, s.serve(&t))
	}
}

// turn takes back the Subscription that c has served and returns the next one; nil when
// there is none, or c was replaced.
func (r *round) turn(c *courier, s *Subscription, rides bool) *Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s != nil {
		r.seatLocked(c, s, rides)
	}
	if r.courier != c {
		return nil
	}
	for r.next < len(r.queue) {
		s := r.queue[r.next]
		r.queue[r.next] = nil
		r.next++
		if s.seat != due {
			continue // its owner has taken it off
		}
		s.seat, s.again = served, false
		if c.served++; c.served%clockEvery == 0 {
			c.clock = time.Now()
		}
		return s
	}
	r.queue, r.next = r.queue[:0], 0
	r.courier = nil
	return nil
}

// seatLocked puts s where it belongs after c has served it.
func (r *round) seatLocked(c *courier, s *Subscription, rides bool) {
	s.carried = c.clock
	switch {
	case r.courier != c:
		s.walks = time.Now().Add(walkAfterDelay)
		fallthrough
	case !rides || s.wanted:
		s.seat = off
		s.knock()
	case s.again || s.more:
		r.addLocked(s)
	default:
		s.seat = parked
	}
}
