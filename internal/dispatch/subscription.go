package dispatch

import (
	"context"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A Subscription walks the bus from one id onward. Next returns every retained
// notification of its channels once, ids ascending (TestEveryMessageOnceInOrder).
// Use it from one goroutine, and Close it.
type Subscription struct {
	d       *Dispatcher
	wake    chan struct{} // capacity 1: wake-ups merge; the marks say what there is
	timer   *time.Timer   // of a Next that waits
	members []member      // one for each channel

	// The cursor. Everything up to given has been given, or was not in these channels,
	// or was told as a gap. The table is read up to until, what is above comes from the
	// window. Only the owner changes them; but until is raised, too, under the Dispatcher's
	// lock, when the window turns out to lack something (rewindLocked, skipLocked, hollowLocked).
	given, until bus.ID
	oldest       bool     // began at 0: while the cursor is there, what was trimmed is no gap
	ahead        *bus.Gap // to be told first

	// The marks, under the Dispatcher's lock.
	marked     []*member // those with something above given in the window
	markedFrom bus.ID    // the lowest id that was marked

	ride
}

// A member is one Subscription's part in one topic.
type member struct {
	sub    *Subscription
	topic  *topic
	index  int // in topic.members
	marked bool
}

// A Batch is one step of a Subscription. Gap comes before Notifications, whose ids are
// above its Until. Last is the cursor behind all of it.
type Batch struct {
	Notifications []*bus.Notification
	Last          bus.ID
	Gap           *bus.Gap

	// Forms are for Carry, nil elsewhere: what it makes of a Batch, one for each wire form
	// that its users number, for the next who is given the same.
	Forms *[Forms]any
}

// Forms is how many wire forms of a Batch are kept.
const Forms = 5

// Empty says that there is nothing but a cursor.
func (b *Batch) Empty() bool { return len(b.Notifications) == 0 && b.Gap == nil }

// batchBytes is where a Batch is cut, so that a response stays well below the 4 MiB
// that gRPC clients accept by default. A Batch holds at least one notification.
const batchBytes = 1 << 20

// Close ends the Subscription.
func (s *Subscription) Close() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	delete(s.d.subs, s)
	for i := range s.members {
		m := &s.members[i]
		if m.topic == nil {
			continue // closed before
		}
		all := m.topic.members
		last := all[len(all)-1]
		all[m.index], last.index = last, m.index
		all[len(all)-1] = nil
		m.topic.members = all[:len(all)-1]
		if len(m.topic.members) == 0 {
			s.d.window.leave(m.topic)
		}
		m.topic = nil
		s.d.members--
	}
}

// markLocked notes that id has come and wakes the owner, or has it rung on its round, if
// that was not done already.
func (m *member) markLocked(id bus.ID) {
	if m.marked {
		return
	}
	m.marked = true
	s := m.sub
	s.marked = append(s.marked, m)
	if len(s.marked) == 1 {
		s.markedFrom = id
		if r := s.round; r != nil {
			r.rung = append(r.rung, s) // ringLocked follows
		} else {
			s.knock()
		}
	}
	s.markedFrom = min(s.markedFrom, id) // at first the channels come in any order
}

// ring tells who has s that there may be something. The Dispatcher's lock is held.
func (s *Subscription) ring() {
	if s.round != nil {
		s.round.ring(s)
		return
	}
	s.knock()
}

// knock wakes the owner.
func (s *Subscription) knock() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// unmarkLocked forgets the marks.
func (s *Subscription) unmarkLocked() {
	for _, m := range s.marked {
		m.marked = false
	}
	clear(s.marked)
	s.marked = s.marked[:0]
}

// rewindLocked prepares for a window that begins again at pos: what was marked up to
// there comes from the table.
func (s *Subscription) rewindLocked(pos bus.ID) {
	if len(s.marked) > 0 || s.until > pos {
		s.until = pos
	}
	s.unmarkLocked()
}

// Last returns the cursor behind everything that was given so far.
func (s *Subscription) Last() bus.ID {
	s.d.mu.RLock()
	defer s.d.mu.RUnlock()
	return s.lastLocked()
}

func (s *Subscription) lastLocked() bus.ID {
	if len(s.marked) > 0 || s.given < s.until || s.ahead != nil {
		return s.given
	}
	if past, ok := nextPast(s.d.pasts, s.given); ok && past.Until <= s.d.pos {
		return s.given
	}
	return max(s.given, s.d.pos)
}

// Next returns what has come since the last call: at most limit notifications, about
// 1 MiB, or a gap. If there is nothing it waits for the first, and for wait at the
// most; then the Batch is empty but for Last.
//
// Errors: ctx's; bus.ErrDraining, with a Batch that has Last, and the gap that it may lie
// behind; bus.ErrUnavailable when the table could not be read. The Subscription stands
// where it was and may be asked again.
func (s *Subscription) Next(ctx context.Context, limit int, wait time.Duration) (Batch, error) {
	b, err := s.now(ctx, limit)
	if err != nil || !b.Empty() || wait <= 0 {
		return b, err
	}
	s.timer.Reset(wait)
	defer s.timer.Stop()
	for {
		switch s.wait(ctx) {
		case gone:
			return Batch{Last: s.Last()}, ctx.Err()
		case over:
			return s.now(ctx, limit)
		}
		if b, err = s.now(ctx, limit); err != nil || !b.Empty() {
			return b, err
		}
	}
}

// Await waits until something may have come since the last Next, or wait is over. A Next
// that does not wait, and Await, are a Next that does, for a caller whose goroutine is to
// keep a small stack. Error: ctx's.
func (s *Subscription) Await(ctx context.Context, wait time.Duration) error {
	s.timer.Reset(max(wait, 0))
	defer s.timer.Stop()
	if s.wait(ctx) == gone {
		return ctx.Err()
	}
	return nil
}

// What a wait ended with.
type event int

const (
	woken event = iota
	over        // the timer
	gone        // the context
)

// wait blocks until something happens. It is where most readers are most of the time: a
// frame of its own keeps their stacks small.
//
//go:noinline
func (s *Subscription) wait(ctx context.Context) event {
	select {
	case <-s.wake:
		return woken
	case <-s.timer.C:
		return over
	case <-ctx.Done():
		return gone
	}
}

// now returns what there is at this moment.
//
//go:noinline
func (s *Subscription) now(ctx context.Context, limit int) (b Batch, err error) {
	for {
		req, done, err := s.collect(&b, limit)
		if done {
			s.d.counts.delivered.Add(int64(len(b.Notifications)))
			return b, err
		}
		if err := s.readPage(ctx, &b, req); err != nil {
			b.Last = s.given
			if b.Empty() {
				return b, err
			}
			return b, nil // the gap first; the next call meets the error
		}
		if len(b.Notifications) > 0 {
			b.Last = s.given
			s.d.counts.delivered.Add(int64(len(b.Notifications)))
			return b, nil
		}
	}
}
