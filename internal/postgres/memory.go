package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
)

// A memory is what a node knows to be committed, by writing or by reading it. A server that
// lacks it has gone back: its files were put back from a copy, which nothing in them
// shows. Safe for concurrent use.
type memory struct {
	mu      sync.Mutex        // guards what follows
	highest bus.ID            // of all
	witness *bus.Notification // the newest that only retention may remove; without its body
}

// keep notes notifications that are committed, ids ascending.
func (m *memory) keep(ns []*bus.Notification) {
	if len(ns) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.highest = max(m.highest, ns[len(ns)-1].ID)
	for i := len(ns) - 1; i >= 0; i-- {
		if n := ns[i]; n.Expires.IsZero() {
			if m.witness == nil || n.ID > m.witness.ID {
				m.witness = &bus.Notification{ID: n.ID, SentAt: n.SentAt}
			}
			return
		}
	}
}

// reached notes that id is committed.
func (m *memory) reached(id bus.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.highest = max(m.highest, id)
}

// prove begins a new history on a server whose sequence is below pos, or below what this
// memory has, or that lacks the witness. It comes before a new connection is used, so that
// no id is given twice and what is lost is told (TestDatabaseThatWentBackBeginsAHistory,
// TestDatabaseThatLostTheNewestRowBeginsAHistory).
func (m *memory) prove(ctx context.Context, q *db.Queries, pos bus.ID) error {
	m.mu.Lock()
	above, witness := int64(max(pos, m.highest)), m.witness
	m.mu.Unlock()
	if witness != nil {
		lost, err := q.LostAbove(ctx, db.LostAboveParams{ID: int64(witness.ID), SentAt: witness.SentAt})
		if err != nil {
			return fmt.Errorf("look for %d: %w", witness.ID, err)
		}
		above = max(above, lost)
	}
	if above == 0 {
		return nil
	}
	if _, err := q.BeginHistory(ctx, &above); err != nil {
		return fmt.Errorf("begin a history above %d: %w", above, err)
	}
	return nil
}
