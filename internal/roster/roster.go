// Package roster knows who is still there: the connections that a server has handed over
// and no longer waits for itself.
package roster

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// A Roster is a set of whoever must have left before a stop is over. Its zero value is
// empty; its methods may be called from any goroutine.
type Roster[T comparable] struct {
	mu     sync.Mutex // guards what follows
	there  map[T]struct{}
	closed bool
	nobody chan struct{} // closed when nobody is there; nil: nobody waits for it
}

// Add notes that who is there, unless the Roster is closed.
func (r *Roster[T]) Add(who T) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.there == nil {
		r.there = make(map[T]struct{})
	}
	r.there[who] = struct{}{}
	return true
}

// Remove notes that who has left; again is nothing.
func (r *Roster[T]) Remove(who T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.there, who)
	if r.nobody != nil && len(r.there) == 0 {
		close(r.nobody)
		r.nobody = nil
	}
}

// Close lets nobody in any more.
func (r *Roster[T]) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// All returns who is there.
func (r *Roster[T]) All() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.there))
}

// Wait returns nil as soon as nobody is there. Error: ctx's.
func (r *Roster[T]) Wait(ctx context.Context) error {
	select {
	case <-r.empty():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Roster[T]) empty() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.nobody == nil {
		r.nobody = make(chan struct{})
	}
	nobody := r.nobody
	if len(r.there) == 0 {
		close(nobody)
		r.nobody = nil
	}
	return nobody
}
