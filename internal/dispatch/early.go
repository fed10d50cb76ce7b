package dispatch

import (
	"cmp"
	"slices"

	"github.com/postbus/postbus/internal/bus"
)

// earlyBound is how many notifications are kept that were offered or read above a gap, and
// no more bytes than the window may hold; the tail is read for the others.
const earlyBound = 10_000

// An early is what was offered or read above a gap: committed, visible, and waiting for
// what is below it. The Dispatcher's lock guards it.
type early struct {
	log   []*bus.Notification // ids ascending
	bytes int
}

// keep keeps n until what is below it has come, if there is room for it within so many
// bytes.
func (e *early) keep(n *bus.Notification, limit int) {
	if len(e.log) >= earlyBound || e.bytes+n.Size() > limit {
		return
	}
	at, again := len(e.log), false
	if at > 0 && e.log[at-1].ID >= n.ID { // two batches under way have taken ids in turns
		at, again = slices.BinarySearchFunc(e.log, n.ID, byID)
	}
	if again {
		return
	}
	e.log = slices.Insert(e.log, at, n)
	e.bytes += n.Size()
}

func byID(n *bus.Notification, id bus.ID) int { return cmp.Compare(n.ID, id) }

// drop forgets what is not above pos.
func (e *early) drop(pos bus.ID) {
	for len(e.log) > 0 && e.log[0].ID <= pos {
		e.shift()
	}
}

// take takes out what is at id; nil if it was not offered. Nothing is below id.
func (e *early) take(id bus.ID) *bus.Notification {
	if len(e.log) == 0 || e.log[0].ID != id {
		return nil
	}
	return e.shift()
}

func (e *early) shift() *bus.Notification {
	n := e.log[0]
	e.log[0] = nil
	e.log = e.log[1:]
	e.bytes -= n.Size()
	return n
}

// forget forgets all of it.
func (e *early) forget() { *e = early{} }

// held returns a copy of what is of no later history than id: what a server that begins
// another one has to say of it comes first (errNewHistory).
func (e *early) held(id bus.ID) []*bus.Notification {
	end, _ := slices.BinarySearchFunc(e.log, (history(id)+1)<<32, byID)
	return slices.Clone(e.log[:end])
}

// seen returns what of held and the rows is visible up to where the read was cut, ids
// ascending. A read without rows says nothing: retention may have taken all of it.
func (r Rows) seen(held []*bus.Notification) []*bus.Notification {
	rows := r.Notifications
	if len(rows) == 0 || len(held) == 0 {
		return rows
	}
	if r.Full {
		end, _ := slices.BinarySearchFunc(held, rows[len(rows)-1].ID, byID)
		held = held[:end]
	}
	seen := make([]*bus.Notification, 0, len(rows)+len(held))
	for len(rows) > 0 && len(held) > 0 {
		switch order := cmp.Compare(rows[0].ID, held[0].ID); {
		case order < 0:
			seen, rows = append(seen, rows[0]), rows[1:]
		case order == 0: // read back
			rows = rows[1:]
		default:
			seen, held = append(seen, held[0]), held[1:]
		}
	}
	return append(append(seen, rows...), held...)
}

// above returns those of ns, which ascend, that are above id.
func above(ns []*bus.Notification, id bus.ID) []*bus.Notification {
	at, _ := slices.BinarySearchFunc(ns, id+1, byID)
	return ns[at:]
}
