package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A Subscription walks the bus from one id onward. Next returns every retained
// notification of its channels once, ids ascending (TestEveryMessageOnceInOrder).
// Use it from one goroutine, and Close it.
type Subscription struct {
	d       *Dispatcher
	wake    chan struct{} // capacity 1: wake-ups merge; the marks say what there is
	timer   *time.Timer   // of the first Next that waits, kept for the others
	members []member      // one for each channel

	// The cursor. Everything up to given has been given, or was not in these channels,
	// or was told as a gap. The table is read up to until, what is above comes from the
	// window. Only the owner changes them, but for rewindLocked.
	given, until bus.ID
	oldest       bool     // began at 0: what was trimmed before the first page is no gap
	ahead        *bus.Gap // to be told first

	// The marks, under the Dispatcher's lock.
	marked     []*member // those with something above given in the window
	markedFrom bus.ID    // the lowest id that was marked
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
}

// Empty says that there is nothing but a cursor.
func (b *Batch) Empty() bool { return len(b.Notifications) == 0 && b.Gap == nil }

// batchBytes is where a Batch is cut, so that a response stays well below the 4 MiB
// that gRPC clients accept by default. A Batch holds at least one notification.
const batchBytes = 1 << 20

// Subscribe returns a Subscription to channels, which must not repeat. It begins behind
// after; 0 is the oldest retained, and nil is now. An id that the database has given
// but this node has not reached is waited for; one that the database never gave
// makes a gap.
//
// Errors: bus.ErrDraining; bus.ErrUnavailable when the node has not yet settled what was there
// before its start (for nil, and for what makes a gap) or cannot ask the database about an id
// that it has not reached; ctx's.
func (d *Dispatcher) Subscribe(ctx context.Context, channels []string, after *bus.ID) (*Subscription, error) {
	ahead, err := d.isAhead(ctx, after)
	if err != nil {
		return nil, err
	}
	s := &Subscription{d: d, wake: make(chan struct{}, 1), members: make([]member, len(channels))}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return nil, bus.ErrDraining
	}
	switch {
	case after == nil:
		s.given = d.pos
	case ahead:
		s.given = d.pos
		s.ahead = &bus.Gap{Reason: bus.Ahead, After: d.pos, Until: d.pos}
	default:
		s.given = *after
		s.oldest = *after == 0
	}
	inWindow := s.given >= d.window.evicted
	if !inWindow {
		s.until = d.pos
	}
	for i, channel := range channels {
		m := &s.members[i]
		m.sub, m.topic = s, d.window.topic(channel)
		m.index = len(m.topic.members)
		m.topic.members = append(m.topic.members, m)
		if inWindow {
			if pending := m.topic.after(s.given); len(pending) > 0 {
				m.markLocked(pending[0].ID)
			}
		}
	}
	d.subs[s] = struct{}{}
	return s, nil
}

// isAhead says whether after is above every id that the database ever gave.
func (d *Dispatcher) isAhead(ctx context.Context, after *bus.ID) (bool, error) {
	if after == nil {
		return false, d.hasPosition()
	}
	d.mu.RLock()
	known := *after <= max(d.pos, d.given)
	d.mu.RUnlock()
	if known {
		return false, nil
	}
	if err := d.takeTurn(ctx); err != nil {
		return false, err
	}
	defer d.endTurn()
	given, err := d.opts.Store.LastGiven(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, fmt.Errorf("ask for the last id: %w: %w", bus.ErrUnavailable, err)
	}
	if *after > given {
		return true, d.hasPosition()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given = max(d.given, given)
	return false, nil
}

// hasPosition refuses those who would begin at pos while pos is not yet the present.
func (d *Dispatcher) hasPosition() error {
	select {
	case <-d.ready:
		return nil
	default:
		return fmt.Errorf("the node is starting: %w", bus.ErrUnavailable)
	}
}

func (d *Dispatcher) takeTurn(ctx context.Context) error {
	select {
	case d.pages <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Dispatcher) endTurn() { <-d.pages }

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
		s.d.window.release(m.topic)
		m.topic = nil
	}
}

// markLocked notes that id has come and wakes the owner, if it is not awake already.
func (m *member) markLocked(id bus.ID) {
	if m.marked {
		return
	}
	m.marked = true
	s := m.sub
	s.marked = append(s.marked, m)
	if len(s.marked) == 1 {
		s.markedFrom = id
		s.ring()
	}
	s.markedFrom = min(s.markedFrom, id) // at first the channels come in any order
}

func (s *Subscription) ring() {
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
// Errors: ctx's; bus.ErrDraining, with a Batch that has Last; bus.ErrUnavailable when the
// table could not be read. The Subscription stands where it was and may be asked again.
func (s *Subscription) Next(ctx context.Context, limit int, wait time.Duration) (Batch, error) {
	b, err := s.now(ctx, limit)
	if err != nil || !b.Empty() || wait <= 0 {
		return b, err
	}
	if s.timer == nil {
		s.timer = time.NewTimer(wait)
	} else {
		s.timer.Reset(wait)
	}
	defer s.timer.Stop()
	for {
		select {
		case <-s.wake:
			if b, err = s.now(ctx, limit); err != nil || !b.Empty() {
				return b, err
			}
		case <-s.timer.C:
			return s.now(ctx, limit)
		case <-ctx.Done():
			return Batch{Last: s.Last()}, ctx.Err()
		}
	}
}

// now returns what there is at this moment.
func (s *Subscription) now(ctx context.Context, limit int) (Batch, error) {
	var b Batch
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
