// Package validate judges a history: one pure function for each promise. Each returns
// what breaks it, nothing when it is kept. None of them knows how the bus works inside;
// what they compare is what senders were told, what readers were given and what the
// database holds.
package validate

import (
	"fmt"

	"github.com/postbus/postbus/tests/robust/history"
)

// A Promise is one thing that must hold of every history.
type Promise struct {
	Name   string
	Broken func(*history.History) []string
}

// Promises are all of them.
func Promises() []Promise {
	return []Promise{
		{"ordered", Ordered},
		{"unique", Unique},
		{"reliable", Reliable},
		{"genuine", Genuine},
		{"atomic", Atomic},
		{"resumable", Resumable},
		{"bookmarkable", Bookmarkable},
		{"durable", Durable},
		{"idempotent", Idempotent},
		{"told", Told},
	}
}

// findings collects what breaks a promise.
type findings []string

func (f *findings) add(format string, args ...any) {
	*f = append(*f, fmt.Sprintf(format, args...))
}

// where names a response.
func where(r history.Response) string {
	return fmt.Sprintf("chain %s, leg %d (%s on %s, after %d), at %v", r.Chain, r.Leg, r.Way, r.Node, r.After, r.Return)
}

// keyOf is what idempotency is about: a key is a channel's own.
type keyOf struct{ channel, key string }

// keys returns the rows of each key, by the messages that were sent with it.
func keys(h *history.History) map[keyOf][]history.Row {
	rows := h.Rows()
	found := map[keyOf][]history.Row{}
	seen := map[string]bool{}
	for _, s := range h.Sends {
		for _, m := range s.Messages {
			if m.Key == "" || seen[m.Token] {
				continue
			}
			seen[m.Token] = true
			k := keyOf{m.Channel, m.Key}
			found[k] = append(found[k], rows[m.Token]...)
		}
	}
	return found
}
