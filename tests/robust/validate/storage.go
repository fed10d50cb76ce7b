package validate

import (
	"slices"

	"github.com/postbus/postbus/tests/robust/history"
)

// Durable holds that a message whose sender was told that it is stored is stored, under the id that
// was told; and what was stored is still there, unless retention or its ttl took it.
func Durable(h *history.History) []string {
	var broken findings
	rows, of := h.Rows(), keys(h)
	for _, s := range h.Sends {
		if s.Outcome != history.Stored {
			continue
		}
		for i, m := range s.Messages {
			if m.Void {
				continue
			}
			candidates := slices.Clone(rows[m.Token])
			if m.Key != "" {
				candidates = append(candidates, of[keyOf{m.Channel, m.Key}]...)
			}
			if len(candidates) == 0 {
				broken.add("%s told %s at %v that %s is stored, and it is not", s.Way, s.Sender, s.Return, m.Token)
			} else if s.Results != nil && !slices.ContainsFunc(candidates, func(r history.Row) bool { return r.ID == s.Results[i].ID }) {
				broken.add("%s was answered id %d and is stored as %d", m.Token, s.Results[i].ID, candidates[0].ID)
			}
		}
	}
	for _, row := range h.Truth.Rows {
		if !row.Present && row.ID > h.Truth.TrimmedTo && !expired(row, h.Truth.At) {
			broken.add("id %d (%s) was committed and has gone", row.ID, row.Token)
		}
	}
	return broken
}

// Genuine holds that what is stored was sent, and nobody was told that it is not stored; what is
// delivered is stored, intact.
func Genuine(h *history.History) []string {
	var broken findings
	sent := map[string]history.Message{}
	possible := map[string]bool{}
	for _, s := range h.Sends {
		for _, m := range s.Messages {
			sent[m.Token] = m
			possible[m.Token] = possible[m.Token] || s.Outcome != history.Nothing && !m.Void
		}
	}
	byID := map[int64]history.Row{}
	for _, row := range h.Truth.Rows {
		byID[row.ID] = row
		switch m, known := sent[row.Token]; {
		case !known:
			broken.add("id %d: %q was never sent", row.ID, row.Token)
		case !possible[row.Token]:
			broken.add("id %d: %s is stored, but was rolled back, or its sender was told that it is not", row.ID, row.Token)
		case m.Channel != row.Channel || m.Sum != row.Sum:
			broken.add("id %d: %s is not as it was sent", row.ID, row.Token)
		}
	}
	for _, r := range h.Responses {
		for _, n := range r.Notifications {
			switch row, stored := byID[n.ID]; {
			case !stored:
				broken.add("%s: id %d (%s) was delivered and never committed", where(r), n.ID, n.Token)
			case row.Notification != n:
				broken.add("%s: id %d is not what is stored under it", where(r), n.ID)
			}
		}
	}
	return broken
}

// Atomic holds that of one send, whatever its outcome, either nothing is stored or everything, by
// one transaction, and the ids ascend as the messages were sent. A message whose key
// was taken by another counts as stored.
func Atomic(h *history.History) []string {
	var broken findings
	rows, of := h.Rows(), keys(h)
	for _, s := range h.Sends {
		var own []history.Row
		var missing []string
		for _, m := range s.Messages {
			switch stored := rows[m.Token]; {
			case m.Void:
			case len(stored) > 0:
				own = append(own, stored[0])
			case m.Key == "" || len(of[keyOf{m.Channel, m.Key}]) == 0:
				missing = append(missing, m.Token)
			}
		}
		if len(own) > 0 && len(missing) > 0 {
			broken.add("%s (%s, %s): %s is stored and %s is not", s.Sender, s.Way, s.Outcome, own[0].Token, missing[0])
		}
		for i := 1; i < len(own); i++ {
			if own[i].ID <= own[i-1].ID {
				broken.add("%s (%s): %s was sent behind %s and is id %d, below %d", s.Sender, s.Way, own[i].Token, own[i-1].Token, own[i].ID, own[i-1].ID)
			}
			if own[i].Transaction != own[0].Transaction {
				broken.add("%s (%s): %s and %s were committed by two transactions", s.Sender, s.Way, own[0].Token, own[i].Token)
			}
		}
	}
	return broken
}

// Idempotent holds that of all messages with one key on one channel at most one is stored; every
// answer has its id, and at most one of them says that it is no duplicate.
func Idempotent(h *history.History) []string {
	var broken findings
	for k, rows := range keys(h) {
		if len(rows) > 1 {
			broken.add("key %s on %s: stored as %d (%s) and %d (%s)", k.key, k.channel, rows[0].ID, rows[0].Token, rows[1].ID, rows[1].Token)
		}
	}
	first := map[keyOf]int64{}
	fresh := map[keyOf]int{}
	for _, s := range h.Sends {
		for i, r := range s.Results {
			m := s.Messages[i]
			if m.Key == "" {
				if r.Duplicate {
					broken.add("%s has no key and was called a duplicate", m.Token)
				}
				continue
			}
			k := keyOf{m.Channel, m.Key}
			if id, again := first[k]; again && id != r.ID {
				broken.add("key %s on %s was answered %d and %d", k.key, k.channel, id, r.ID)
			}
			first[k] = r.ID
			if !r.Duplicate {
				fresh[k]++
			}
		}
	}
	for k, n := range fresh {
		if n > 1 {
			broken.add("key %s on %s was answered as new %d times", k.key, k.channel, n)
		}
	}
	return broken
}
