package odoo

import "context"

// Drain ends every socket, with code 1001, and opens no more. Clients go on elsewhere, with
// their last.
func (h *Handler) Drain() {
	h.sockets.Close()
	for _, s := range h.sockets.All() {
		s.end(leaving)
	}
}

// Wait waits until every socket has ended, behind Drain. Error: ctx's.
func (h *Handler) Wait(ctx context.Context) error { return h.sockets.Wait(ctx) }
