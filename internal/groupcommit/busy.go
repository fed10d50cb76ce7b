package groupcommit

import (
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// park keeps a send with a busy key out of the queue for a while: 2 ms at first,
// 100 ms in the end, KeyPatience in all.
func (w *Writer) park(s *send) {
	now := time.Now()
	if s.tries == 0 {
		s.deadline = now.Add(w.opts.KeyPatience)
	}
	pause := min(2*time.Millisecond<<min(s.tries, 6), 100*time.Millisecond)
	s.tries++

	w.mu.Lock()
	if giveUp := w.stopping || now.After(s.deadline) || s.abandoned(); giveUp {
		w.mu.Unlock()
		w.finish(s, answer{err: bus.ErrKeyBusy})
		return
	}
	defer w.mu.Unlock()
	w.parked[s] = time.AfterFunc(pause, func() { w.unpark(s) })
}

func (w *Writer) unpark(s *send) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, still := w.parked[s]; !still {
		return // stop has answered it
	}
	delete(w.parked, s)
	w.enqueueLocked(s)
}
