package dispatch

import (
	"container/heap"
	"context"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// collect fills b from the window and moves the cursor. It is not done when the table
// must be read first, by req.
func (s *Subscription) collect(b *Batch, limit int) (req PageRequest, done bool, err error) {
	d := s.d
	d.mu.RLock()
	defer d.mu.RUnlock()
	if s.ahead != nil {
		b.Gap, s.ahead = s.ahead, nil
	}
	if d.draining {
		b.Last = s.lastLocked()
		return req, true, bus.ErrDraining
	}
	if len(s.marked) > 0 && s.markedFrom <= d.window.evicted {
		s.until = d.pos // the window has moved on: the table has it
		s.unmarkLocked()
	}
	for {
		limitID := bus.ID(0)
		past, boundary := nextPast(d.pasts, s.given)
		if boundary = boundary && past.Until <= d.pos; boundary {
			limitID = past.Until
		}
		if s.given < s.until {
			until := s.until
			if boundary {
				until = min(until, limitID)
			}
			if channels := s.unknownLocked(); len(channels) > 0 {
				return PageRequest{Channels: channels, After: s.given, Until: until, Max: limit, MaxBytes: batchBytes}, false, nil
			}
			if !boundary || until < limitID {
				s.given = until
				continue
			}
		} else if s.takeLocked(b, limit, limitID); len(b.Notifications) > 0 {
			if !boundary && len(s.marked) == 0 {
				s.given = max(s.given, d.pos)
			}
			b.Last = s.given
			return req, true, nil
		}
		if !boundary {
			s.given = max(s.given, d.pos)
			b.Last = s.given
			return req, true, nil
		}
		s.pass(b, past)
	}
}

// pass moves the cursor over a boundary between histories and tells of it: of all that
// may be lost, even below the cursor. For that may have moved there over pages of a server
// that had lost it already (TestHistoryIsToldToReadersOfTheTable).
func (s *Subscription) pass(b *Batch, past bus.Past) {
	b.Gap = b.Gap.Widen(&bus.Gap{Reason: bus.History, After: past.Survived, Until: past.Until})
	s.given = past.Until
}

// unknownLocked returns the channels that may hold something above the cursor which the
// window does not show.
func (s *Subscription) unknownLocked() []string {
	var channels []string
	for i := range s.members {
		if t := s.members[i].topic; !t.quietSince(s.given) {
			channels = append(channels, t.channel)
		}
	}
	return channels
}

// takeLocked takes from the marked topics what is above the cursor, in the order of
// ids, up to limitID (0: no limit), and moves the cursor to the last one. Topics that
// are used up are unmarked.
func (s *Subscription) takeLocked(b *Batch, limit int, limitID bus.ID) {
	var now time.Time
	bytes := 0
	take := func(n *bus.Notification) {
		s.given = n.ID
		if !n.Expires.IsZero() {
			if now.IsZero() {
				now = time.Now()
			}
			if n.Expired(now) {
				return
			}
		}
		b.Notifications = append(b.Notifications, n)
		bytes += n.Size()
	}
	room := func(n *bus.Notification) bool {
		return len(b.Notifications) < limit && (limitID == 0 || n.ID <= limitID) &&
			(len(b.Notifications) == 0 || bytes+n.Size() <= batchBytes)
	}

	if len(s.marked) == 1 { // the common case
		m := s.marked[0]
		pending := m.topic.after(s.given)
		for len(pending) > 0 && room(pending[0]) {
			take(pending[0])
			pending = pending[1:]
		}
		if len(pending) == 0 {
			s.unmarkLocked()
		} else {
			s.markedFrom = pending[0].ID
		}
		return
	}

	var queue merge
	for _, m := range s.marked {
		if pending := m.topic.after(s.given); len(pending) > 0 {
			queue = append(queue, strand{m, pending})
		}
	}
	s.unmarkLocked()
	heap.Init(&queue)
	for len(queue) > 0 && room(queue[0].pending[0]) {
		first := &queue[0]
		take(first.pending[0])
		if first.pending = first.pending[1:]; len(first.pending) > 0 {
			heap.Fix(&queue, 0)
		} else {
			heap.Pop(&queue)
		}
	}
	for _, left := range queue {
		left.member.marked = true
		s.marked = append(s.marked, left.member)
	}
	if len(queue) > 0 {
		s.markedFrom = queue[0].pending[0].ID
	}
}

// A strand is what is left to take of one topic; a merge orders strands by their next
// id.
type strand struct {
	member  *member
	pending []*bus.Notification
}

type merge []strand

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return m[i].pending[0].ID < m[j].pending[0].ID }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(strand)) }
func (m *merge) Pop() any {
	last := len(*m) - 1
	s := (*m)[last]
	*m = (*m)[:last]
	return s
}

// readPage reads one page of the table into b and moves the cursor behind it.
func (s *Subscription) readPage(ctx context.Context, b *Batch, req PageRequest) error {
	d := s.d
	if err := d.takeTurn(ctx); err != nil {
		return err
	}
	defer d.endTurn()
	if s.answered(req) {
		return nil // another reader has found out meanwhile
	}
	page, err := d.page(ctx, req)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.learnLocked(req, page)
	if page.TrimmedTo > s.given {
		if s.given > 0 || !s.oldest {
			b.Gap = b.Gap.Widen(&bus.Gap{Reason: bus.Trimmed, After: s.given, Until: page.TrimmedTo})
		}
		s.given = page.TrimmedTo
	}
	s.oldest = false
	now, bytes, scanned := time.Now(), 0, page.Scanned
	for _, n := range page.Notifications {
		if n.ID <= s.given || n.Expired(now) {
			continue
		}
		if bytes += n.Size(); len(b.Notifications) > 0 && bytes > batchBytes {
			scanned = b.Notifications[len(b.Notifications)-1].ID
			break // the next page begins with it
		}
		b.Notifications = append(b.Notifications, n)
	}
	past, boundary := nextPast(d.pasts, s.given)
	switch boundary = boundary && past.Until <= d.pos && past.Until <= scanned; {
	case !boundary:
		s.given = max(s.given, scanned)
	case len(b.Notifications) > 0:
		s.given = b.Notifications[len(b.Notifications)-1].ID // the gap comes next
	default:
		s.pass(b, past)
	}
	return nil
}

// answered says that no channel of req can hold anything above the cursor any more.
func (s *Subscription) answered(req PageRequest) bool {
	s.d.mu.RLock()
	defer s.d.mu.RUnlock()
	return req.After == s.given && len(s.unknownLocked()) == 0
}

// learnLocked remembers how quiet the channels are that a complete page has shown.
func (s *Subscription) learnLocked(req PageRequest, page Page) {
	if page.Scanned < req.Until || req.Until < s.until {
		return // cut: there may be more below the window
	}
	newest := make(map[string]bus.ID, len(req.Channels))
	for _, n := range page.Notifications {
		newest[n.Channel] = n.ID
	}
	for i := range s.members {
		t := s.members[i].topic
		if t.quietSince(s.given) {
			continue // not asked
		}
		// What retention took is not known to have been nothing.
		t.learn(max(newest[t.channel], req.After, page.TrimmedTo), req.Until)
	}
}
