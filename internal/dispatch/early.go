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
