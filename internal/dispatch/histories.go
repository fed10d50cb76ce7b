package dispatch

import "github.com/postbus/postbus/internal/bus"

// begin takes over what a new connection found: at first the position, later new
// histories. What this node delivered and the database has lost is forgotten; the
// cursors that were given it are told when pos passes the boundary.
func (d *Dispatcher) begin(p Position) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, _ := lastPast(d.pasts)
	d.pasts = p.Histories
	d.head = max(d.head, p.Head)
	d.given = max(d.given, p.Head)
	if !d.started {
		d.started = true
		d.pos = p.Floor
		d.window.reset(d.pos)
		for s := range d.subs { // from before the start: the table has what is below
			s.until = d.pos
			s.ring()
		}
		return
	}
	if last, _ := lastPast(p.Histories); last.Until > known.Until {
		d.early.forget() // the table knows what of it survived (TestEarlyOfferOfALostHistoryIsForgotten)
	}
	survived := d.pos
	for _, past := range p.Histories {
		if past.Until > known.Until && past.Until > d.pos { // else pos is of this history already
			survived = min(survived, past.Survived)
		}
	}
	if survived < d.pos {
		d.pos = survived
		for s := range d.subs {
			s.rewindLocked(survived)
		}
		d.window.reset(survived)
	}
	d.skipLocked(p.TrimmedTo)
}

// nextPast returns the first boundary that a cursor at id has not passed.
func nextPast(pasts []bus.Past, id bus.ID) (bus.Past, bool) {
	for _, past := range pasts {
		if past.Until > id {
			return past, true
		}
	}
	return bus.Past{}, false
}

func lastPast(pasts []bus.Past) (bus.Past, bool) {
	if len(pasts) == 0 {
		return bus.Past{}, false
	}
	return pasts[len(pasts)-1], true
}
