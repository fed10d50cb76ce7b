package validate

import (
	"github.com/postbus/postbus/tests/robust/history"
)

// Reliable holds that at the end every chain has been given every row of its channels, but for what
// a gap covers and what had expired, and it has come to the head.
func Reliable(h *history.History) []string {
	var broken findings
	for _, chain := range h.Chains {
		steps := walk(h, chain.Name)
		if len(steps) == 0 {
			broken.add("chain %s was never answered", chain.Name)
			continue
		}
		if last := steps[len(steps)-1].Last; last < h.Truth.Head() {
			broken.add("chain %s ended at %d, below the head %d", chain.Name, last, h.Truth.Head())
		}
		given := map[int64]bool{}
		for _, s := range steps {
			for _, n := range s.Notifications {
				given[n.ID] = true
			}
		}
		for _, s := range steps {
			for _, row := range passed(h, &chain, s) {
				if !given[row.ID] {
					broken.add("chain %s was never given id %d (%s, %s)", chain.Name, row.ID, row.Channel, row.Token)
				}
			}
		}
	}
	return broken
}

// Resumable holds that a leg begins where the one before it ended. Its first response gives all
// that lies between its after and its last, and nothing from below.
func Resumable(h *history.History) []string {
	var broken findings
	for _, chain := range h.Chains {
		for i, s := range walk(h, chain.Name) {
			if i == 0 || !s.Opens {
				continue
			}
			for _, row := range passed(h, &chain, s) {
				broken.add("%s: resumed over id %d (%s)", where(s.Response), row.ID, row.Token)
			}
			for _, n := range s.Notifications {
				if n.ID <= s.After {
					broken.add("%s: given id %d again", where(s.Response), n.ID)
				}
			}
		}
	}
	return broken
}

// Bookmarkable holds that last is what a reader may go on from. It is not below what the response
// gives, nor below the reader's own cursor, and it passes over no message that the
// reader should have been given.
func Bookmarkable(h *history.History) []string {
	var broken findings
	for _, chain := range h.Chains {
		for _, s := range walk(h, chain.Name) {
			ahead := s.Gap != nil && s.Gap.Reason == "REASON_AHEAD"
			if s.Last < s.from && !ahead {
				broken.add("%s: last is %d, below the reader's %d", where(s.Response), s.Last, s.from)
			}
			for _, n := range s.Notifications {
				if n.ID > s.Last {
					broken.add("%s: last is %d, below the id %d given with it", where(s.Response), s.Last, n.ID)
				}
			}
			for _, row := range passed(h, &chain, s) {
				broken.add("%s: last moved from %d to %d over id %d (%s, %s)", where(s.Response), s.from, s.Last, row.ID, row.Channel, row.Token)
			}
		}
	}
	return broken
}

// Unique holds that no chain is given an id twice, and no message is stored twice, whatever its
// sender was told and tried again.
func Unique(h *history.History) []string {
	var broken findings
	for _, chain := range h.Chains {
		given := map[int64]history.Response{}
		for _, r := range h.Of(chain.Name) {
			for _, n := range r.Notifications {
				if first, again := given[n.ID]; again {
					broken.add("%s: id %d again, first in leg %d", where(r), n.ID, first.Leg)
				}
				given[n.ID] = r
			}
		}
	}
	for token, rows := range h.Rows() {
		if len(rows) > 1 {
			broken.add("%s is stored %d times, as %d and %d", token, len(rows), rows[0].ID, rows[1].ID)
		}
	}
	return broken
}

// Told holds that a gap has a cause, and says no more than that. The only loss that a run makes is
// retention's: no reader is told of another history, or that it is ahead.
func Told(h *history.History) []string {
	var broken findings
	for _, r := range h.Responses {
		switch g := r.Gap; {
		case g == nil:
		case g.Reason != "REASON_TRIMMED":
			broken.add("%s: %s (%d, %d], and nothing of the kind happened", where(r), g.Reason, g.After, g.Until)
		case g.Until > h.Truth.TrimmedTo:
			broken.add("%s: a gap up to %d, but only up to %d was trimmed", where(r), g.Until, h.Truth.TrimmedTo)
		case g.Until <= g.After:
			broken.add("%s: a gap from %d to %d", where(r), g.After, g.Until)
		case r.Opens && r.After == 0:
			broken.add("%s: a gap (%d, %d], to a reader that asked for the oldest", where(r), g.After, g.Until)
		case r.Opens && r.After != history.Absent && g.After < r.After:
			broken.add("%s: a gap from %d, below the reader's cursor", where(r), g.After)
		}
	}
	return broken
}
