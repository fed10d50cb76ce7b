package dispatch

import "github.com/postbus/postbus/internal/bus"

// Offer takes notifications that this node has just committed, ids ascending, so that
// they need not be read back. Those that are contiguous with pos are settled:
// everything below is, and they are visible. Those above a gap wait for it to be filled,
// by another Offer or by the tail, which is read for what is never offered.
//
// Their ids say in which history they were committed. Those of a history that has ended
// are left out, however late they come: only the table knows whether they survived
// (TestLateOfferOfALostHistoryIsLeftOut).
func (d *Dispatcher) Offer(ns []*bus.Notification) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started {
		return
	}
	past, _ := lastPast(d.pasts)
	for _, n := range ns {
		if n.ID <= past.Until {
			continue
		}
		d.given = max(d.given, n.ID)
		d.head = max(d.head, n.ID)
		switch {
		case n.ID == d.pos+1:
			d.appendLocked(n)
		case n.ID > d.pos:
			d.early.keep(n, d.opts.WindowBytes)
		}
	}
	d.early.drop(d.pos)
	d.takeEarlyLocked()
	d.window.evict()
	d.ringLocked()
}

// takeEarlyLocked appends what was offered and is contiguous by now. What is not above pos
// was dropped.
func (d *Dispatcher) takeEarlyLocked() {
	for n := d.early.take(d.pos + 1); n != nil; n = d.early.take(d.pos + 1) {
		d.appendLocked(n)
	}
}
