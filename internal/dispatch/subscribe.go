package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// Subscribe returns a Subscription to channels, which must not repeat. It begins behind
// after; 0 is the oldest retained, and nil is now. An id that the database has given
// but this node has not reached is waited for; one that the database never gave
// makes a gap.
//
// Errors: bus.ErrDraining; bus.ErrTooManyReaders when Memberships would be passed;
// bus.ErrTooManyReads; bus.ErrUnavailable when the node has not yet settled what was there
// before its start (for nil, and for what makes a gap) or cannot ask the database about an id
// that it has not reached; ctx's.
func (d *Dispatcher) Subscribe(ctx context.Context, channels []string, after *bus.ID) (*Subscription, error) {
	ahead, err := d.isAhead(ctx, after)
	if err != nil {
		return nil, err
	}
	s := &Subscription{d: d, wake: make(chan struct{}, 1), timer: time.NewTimer(0), members: make([]member, len(channels))}
	s.timer.Stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return nil, bus.ErrDraining
	}
	if d.members+len(channels) > d.opts.Memberships {
		return nil, fmt.Errorf("%w: they have %d channels, at most %d", bus.ErrTooManyReaders, d.members, d.opts.Memberships)
	}
	d.members += len(channels)
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
	for i, channel := range channels {
		m := &s.members[i]
		m.sub, m.topic = s, d.window.topic(channel)
		m.index = len(m.topic.members)
		m.topic.members = append(m.topic.members, m)
		if m.index == 0 {
			d.window.join(m.topic)
		}
		inWindow = inWindow && s.given >= m.topic.lacks
	}
	if !inWindow {
		s.until = d.pos
	}
	for i := range s.members {
		m := &s.members[i]
		if pending := m.topic.after(s.given); inWindow && len(pending) > 0 {
			m.markLocked(pending[0].ID)
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

// takeTurn waits for a turn to read the table, unless too many do.
func (d *Dispatcher) takeTurn(ctx context.Context) error {
	select {
	case d.pages <- struct{}{}:
		return nil
	default:
	}
	defer d.queued.Add(-1)
	if d.queued.Add(1) > int64(d.opts.PageQueue) {
		return bus.ErrTooManyReads
	}
	select {
	case d.pages <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Dispatcher) endTurn() { <-d.pages }
