package dispatch

import "github.com/postbus/postbus/internal/bus"

// skip moves pos to where retention has got, when that was faster than this node: it was
// cut off, or held up, and another node has recorded a floor above.
func (d *Dispatcher) skip(trimmed bus.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.skipLocked(trimmed)
}

// skipLocked sends every cursor to the table, which tells it the gap: nobody knows what
// was in its channels (TestTrimmedBeforeTheNodeReadItIsTold). Every id up to trimmed is
// settled, as the floor was that retention goes by.
func (d *Dispatcher) skipLocked(trimmed bus.ID) {
	if trimmed <= d.pos {
		return
	}
	d.pos = trimmed
	d.head = max(d.head, trimmed)
	d.window.reset(trimmed)
	d.window.forget()
	d.early.drop(trimmed)
	for s := range d.subs {
		s.unmarkLocked()
		s.until = trimmed
		s.ring()
	}
}
