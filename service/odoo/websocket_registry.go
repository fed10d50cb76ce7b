package odoo

import (
	"context"
	"sync"
)

// sockets are those that are open. A server that stops knows nothing of them: their
// connections are not its own any more.
type sockets struct {
	mu       sync.Mutex // guards what follows
	open     map[*socket]struct{}
	draining bool
	none     chan struct{} // closed when none is open; nil: nobody waits
}

// add admits s, unless the sockets are being drained.
func (all *sockets) add(s *socket) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.draining {
		return false
	}
	if all.open == nil {
		all.open = make(map[*socket]struct{})
	}
	all.open[s] = struct{}{}
	return true
}

func (all *sockets) remove(s *socket) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.open, s)
	if all.none != nil && len(all.open) == 0 {
		close(all.none)
		all.none = nil
	}
}

// Drain ends every socket, with code 1001, and opens no more. Clients go on elsewhere, with
// their last.
func (h *Handler) Drain() {
	all := &h.sockets
	all.mu.Lock()
	all.draining = true
	ended := make([]*socket, 0, len(all.open))
	for s := range all.open {
		ended = append(ended, s)
	}
	all.mu.Unlock()
	for _, s := range ended {
		s.end(leaving)
	}
}

// Wait waits until every socket has ended, behind Drain. Error: ctx's.
func (h *Handler) Wait(ctx context.Context) error {
	all := &h.sockets
	all.mu.Lock()
	if len(all.open) == 0 {
		all.mu.Unlock()
		return nil
	}
	if all.none == nil {
		all.none = make(chan struct{})
	}
	none := all.none
	all.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
