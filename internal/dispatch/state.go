package dispatch

import (
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// State is what a Dispatcher reports about itself.
type State struct {
	Connected bool // the tail is being followed
	Ready     bool // everything committed before the start is settled
	Sleeping  bool // blocked until the bell rings
	Listening bool // the connection can hear the bell; false: polling
	Err       error

	Pos     bus.ID        // every id up to here is settled
	Head    bus.ID        // the highest id seen
	Held    time.Duration // how long the oldest open gap has been open; 0: none is
	Holders []Holder      // who holds it open

	Subscriptions  int
	Memberships    int // their channels
	PagesWaiting   int // who wait for a read of the table
	WindowMessages int
	WindowBytes    int

	Reconnects  int64
	Pages       int64 // read from the table
	Delivered   int64 // notifications handed to subscriptions
	Reads       int64 // of the tail
	Probes      int64 // questions who holds a gap open
	Bells       int64 // heard
	MissedBells int64 // rows that only the fallback read found
	Stalls      int64 // subscriptions that held their courier up
}

// State returns the present state.
func (d *Dispatcher) State() State {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := State{
		Connected: d.link.connected, Sleeping: d.link.sleeping, Listening: d.link.listening, Err: d.link.err,
		Pos: d.pos, Head: d.head, Holders: d.link.holders,
		Subscriptions: len(d.subs), Memberships: d.members, PagesWaiting: int(d.queued.Load()), WindowMessages: d.window.len(), WindowBytes: d.window.bytes,
		Reconnects: d.counts.reconnects.Load(), Pages: d.counts.pages.Load(), Delivered: d.counts.delivered.Load(),
		Reads: d.counts.reads.Load(), Probes: d.counts.probes.Load(), Bells: d.counts.bells.Load(), MissedBells: d.counts.missedBells.Load(),
	}
	if !d.link.held.IsZero() {
		s.Held = time.Since(d.link.held)
	}
	for i := range d.rounds {
		s.Stalls += d.rounds[i].stalls()
	}
	select {
	case <-d.ready:
		s.Ready = true
	default:
	}
	return s
}
