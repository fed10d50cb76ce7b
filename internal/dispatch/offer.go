package dispatch

import "github.com/postbus/postbus/internal/bus"

// earlyBound is how many notifications are kept that were offered above a gap, and no
// more bytes than the window may hold; the tail is read for the others.
const earlyBound = 10_000

// Offer takes notifications that this node has just committed, ids ascending, so that
// they need not be read back. Those that are contiguous with pos are settled:
// everything below is, and they are visible. Those above a gap wait for it to be filled
// by another Offer; the tail is read for what is never offered.
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
			d.keepEarlyLocked(n)
		}
	}
	d.takeEarlyLocked()
	d.window.evict()
	d.ringLocked()
}

// keepEarlyLocked keeps n until what is below it has come, if there is room.
func (d *Dispatcher) keepEarlyLocked(n *bus.Notification) {
	_, again := d.early[n.ID]
	if again || len(d.early) >= earlyBound || d.earlyBytes+n.Size() > d.opts.WindowBytes {
		return
	}
	d.early[n.ID] = n
	d.earlyBytes += n.Size()
}

// dropEarlyLocked forgets what is offered but no longer above pos.
func (d *Dispatcher) dropEarlyLocked() {
	for id, n := range d.early {
		if id <= d.pos {
			delete(d.early, id)
			d.earlyBytes -= n.Size()
		}
	}
}

// forgetEarlyLocked forgets all of it: a history has ended, and the table knows what of it
// survived (TestEarlyOfferOfALostHistoryIsForgotten).
func (d *Dispatcher) forgetEarlyLocked() {
	clear(d.early)
	d.earlyBytes = 0
}

// takeEarlyLocked appends what was offered and is contiguous by now.
func (d *Dispatcher) takeEarlyLocked() {
	for n := d.early[d.pos+1]; n != nil; n = d.early[d.pos+1] {
		delete(d.early, n.ID)
		d.earlyBytes -= n.Size()
		d.appendLocked(n)
	}
}
