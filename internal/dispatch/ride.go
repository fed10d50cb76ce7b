package dispatch

import (
	"context"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A Carrier is where the batches of a riding Subscription go.
type Carrier struct {
	// Peer numbers what several subscriptions share, such as a connection: those of one
	// peer have one courier, so that what is ready for them can be written together.
	Peer uint64

	// Carry gives one Batch, which others may be given, too: it may change Forms alone.
	// It must return when the context of Ride ends. Without it Ride is Next.
	Carry func(*Batch) error

	// Release, if there is one, is called when the context of Ride has ended while a
	// courier has the Subscription, so that Carry returns
	// (TestReleaseLetsCarryReturnAtTheEndOfTheRide).
	Release func()
}

// walkAfterDelay is how long a Subscription that has held a courier up does without one.
const walkAfterDelay = time.Minute

// A ride is a Subscription's part in a round.
type ride struct {
	// Who has the Subscription, its owner or the courier, uses these.
	limit  int
	carry  func(*Batch) error
	batch  *Batch    // to be carried next
	rides  bool      // on, after this one
	failed error     // Carry's
	more   bool      // batch was cut
	walks  time.Time // no courier until then

	round *round // of the last Ride; nil: has never ridden. Under the Dispatcher's lock

	// The round's lock guards these.
	seat    seat
	again   bool      // rung while it was served
	wanted  bool      // its owner waits for it
	carried time.Time // when something was, about
}

// A seat is where a Subscription is.
type seat int

const (
	off    seat = iota // its owner has it
	parked             // there is nothing to give
	due                // it waits for the courier
	served             // a courier has it, or is about to
)

// Ride is Next for a stream. What comes is given by calling to.Carry, one call at a time,
// from a goroutine that serves many streams. It returns with what is the caller's to deal
// with: what the table must be read for, a gap, an error, or, after wait without anything,
// an empty Batch. Ids ascend over what is carried and what is returned
// (TestRidersGetEveryMessageOnceInOrder).
//
// A Carry that blocks delays nobody else (TestStalledRiderDelaysNobody); for the next
// minute its Subscription gets everything by return.
//
// Errors: those of Next, and Carry's as it is.
func (s *Subscription) Ride(ctx context.Context, limit int, wait time.Duration, to Carrier) (Batch, error) {
	s.limit, s.carry = limit, to.Carry
	for to.Carry != nil && wait > 0 && !time.Now().Before(s.walks) && s.board(to.Peer) {
		ended := s.aboard(ctx, wait, to.Release)
		if err := s.failed; err != nil {
			s.failed = nil
			return Batch{Last: s.Last()}, err
		}
		switch ended {
		case gone:
			return Batch{Last: s.Last()}, ctx.Err()
		case over:
			return Batch{Last: s.Last()}, nil
		}
	}
	return s.Next(ctx, limit, wait)
}

// board lets s ride, unless there is something that only its owner can deal with.
func (s *Subscription) board(peer uint64) bool {
	d := s.d
	r := &d.rounds[peer%uint64(len(d.rounds))]
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.draining || !s.onWindowLocked() {
		return false
	}
	s.round = r
	r.mu.Lock()
	defer r.mu.Unlock()
	s.seat, s.wanted, s.carried = parked, false, time.Now()
	if len(s.marked) > 0 {
		r.addLocked(s)
	}
	return true
}

// onWindowLocked says that all there is to give comes from the window.
func (s *Subscription) onWindowLocked() bool {
	if s.ahead != nil || s.given < s.until || len(s.marked) > 0 && s.markedFrom <= s.d.window.evicted {
		return false
	}
	past, boundary := nextPast(s.d.pasts, s.given)
	return !boundary || past.Until > s.d.pos
}

// aboard waits until s is its owner's again, and says why.
func (s *Subscription) aboard(ctx context.Context, wait time.Duration, release func()) event {
	s.timer.Reset(wait)
	defer s.timer.Stop()
	for {
		ended := s.wait(ctx)
		isOff, quiet := s.alight(ended, wait)
		switch {
		case isOff:
			return ended
		case ended == over:
			s.timer.Reset(wait - quiet)
		case ended == gone: // so that Carry is about to return
			if release != nil {
				release()
			}
			for !isOff {
				<-s.wake
				isOff, _ = s.alight(woken, wait)
			}
			return gone
		}
	}
}

// alight takes s off the round, if the event is one to do so and the courier has not got
// it. quiet is how long nothing has been carried.
func (s *Subscription) alight(ended event, wait time.Duration) (isOff bool, quiet time.Duration) {
	r := s.round
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case s.seat == off || ended == woken: // woken may be an old wake-up
		return s.seat == off, 0
	case ended == over:
		if s.seat != parked {
			return false, 0
		}
		if quiet = time.Since(s.carried); quiet < wait {
			return false, quiet
		}
	case s.seat == served:
		s.wanted = true
		return false, 0
	}
	s.seat = off
	return true, 0
}

// pick takes for each of subs what there is in the window. Who gets no batch has something
// else for its owner to see to.
func (d *Dispatcher) pick(subs []*Subscription, t *tray) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	delivered := 0
	for _, s := range subs {
		if s.batch == nil && !d.draining && s.onWindowLocked() {
			s.batch = s.pickLocked(t)
			delivered += len(s.batch.Notifications)
		}
	}
	d.counts.delivered.Add(int64(delivered))
}

func (s *Subscription) pickLocked(t *tray) *Batch {
	var pending []*bus.Notification
	if len(s.marked) == 1 {
		pending = s.marked[0].topic.after(s.given)
		if b := t.sameFor(pending, s.limit); b != nil {
			s.unmarkLocked()
			s.given, s.more = b.Last, false
			return b
		}
	}
	b := newCarried()
	s.takeLocked(b, s.limit, 0)
	if s.more = len(s.marked) > 0; !s.more {
		s.given = max(s.given, s.d.pos)
		t.keep(b, pending, s.limit)
	}
	b.Last = s.given
	return b
}

// newCarried returns a Batch for Carry.
func newCarried() *Batch {
	b := new(struct {
		Batch
		forms [Forms]any
	})
	b.Forms = &b.forms
	return &b.Batch
}

// deliver carries the batch, on the courier's goroutine.
func (s *Subscription) deliver() {
	b := s.batch
	s.batch = nil
	s.rides = b != nil
	if s.rides && len(b.Notifications) > 0 { // else what had come has expired
		s.failed = s.carry(b)
		s.rides = s.failed == nil
	}
}

// A tray is the Batch that a courier gave last, for the next one who is to have the same.
type tray struct {
	batch *Batch
	first *bus.Notification
	count int
	limit int
}

// keep notes that b is what pending makes.
func (t *tray) keep(b *Batch, pending []*bus.Notification, limit int) {
	if len(pending) > 0 {
		*t = tray{batch: b, first: pending[0], count: len(pending), limit: limit}
	}
}

// sameFor returns the Batch that was made of just this, if there is one. Its Last may be
// lower than one made now.
func (t *tray) sameFor(pending []*bus.Notification, limit int) *Batch {
	if t.batch == nil || len(pending) != t.count || pending[0] != t.first || limit != t.limit {
		return nil
	}
	return t.batch
}
