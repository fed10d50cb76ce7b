package groupcommit

import "time"

// What waits, and when it may begin. The commit under way is the timer of those who wait, so
// that the busier a node is the larger its batches are; another one begins beside it when that
// would be full, or when the commit takes long.

// enqueueLocked adds s to the queue. Only the first one and one that fills a batch can change
// what may begin, and when.
func (w *Writer) enqueueLocked(s *send) {
	first, full := len(w.queue) == 0, w.fullLocked()
	w.queued.add(s)
	w.queue = append(w.queue, s)
	if first || full != w.fullLocked() {
		w.proceedLocked()
	}
}

// fullLocked says that what is queued fills a batch.
func (w *Writer) fullLocked() bool {
	return w.queued.messages >= w.opts.BatchMessages || w.queued.bytes >= w.opts.BatchBytes
}

// next ends a batch, and returns what its committer goes on with, if anything.
func (w *Writer) next() []*send {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.underWay--
	w.ended.Broadcast()
	batch := w.takeLocked()
	w.proceedLocked()
	return batch
}

// proceed is proceedLocked, when the commit under way takes long.
func (w *Writer) proceed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proceedLocked()
}

// proceedLocked gives the committers what may begin, and looks again when the commit under way
// takes long.
func (w *Writer) proceedLocked() {
	for batch := w.takeLocked(); len(batch) > 0; batch = w.takeLocked() {
		w.batches <- batch // there is room
	}
	if len(w.queue) > 0 && w.running && w.underWay < w.opts.InFlight {
		w.late.Reset(w.opts.Late - time.Since(w.begun))
	}
}

// takeLocked begins the next batch, if it may, and removes it from the queue: sends in their
// order of arrival, at least one, until a bound is reached. Callers who have gone away are left
// out.
func (w *Writer) takeLocked() []*send {
	if !w.mayBeginLocked() {
		return nil
	}
	var batch []*send
	var taken load
	n := 0
	for _, s := range w.queue {
		gone := s.abandoned()
		if !gone && len(batch) > 0 && taken.exceeds(s, w.opts.BatchMessages, w.opts.BatchBytes) {
			break
		}
		n++
		w.queued.drop(s)
		if gone {
			w.accepted.drop(s)
			continue
		}
		batch = append(batch, s)
		taken.add(s)
	}
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	if len(batch) > 0 {
		w.beginLocked()
	}
	return batch
}

func (w *Writer) mayBeginLocked() bool {
	switch {
	case !w.running || len(w.queue) == 0 || w.underWay == w.opts.InFlight:
		return false
	case w.underWay == 0 || w.stopping || time.Since(w.begun) >= w.opts.Late:
		return true
	}
	return w.fullLocked()
}

func (w *Writer) beginLocked() {
	w.underWay++
	w.begun = time.Now()
}
