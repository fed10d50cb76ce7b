package validate

import (
	"slices"
	"time"

	"github.com/postbus/postbus/tests/robust/history"
)

// Ordered holds that ids ascend in one chain, and they ascend with time: what is sent after a reader
// was told a position, or after a sender was told an id, gets a higher one.
func Ordered(h *history.History) []string {
	var broken findings
	for _, chain := range h.Chains {
		for _, s := range walk(h, chain.Name) {
			previous := s.from
			for _, n := range s.Notifications {
				if n.ID <= previous {
					broken.add("%s: id %d comes behind %d", where(s.Response), n.ID, previous)
				}
				previous = n.ID
			}
		}
	}
	first := firstCalls(h)
	known := marks(h)
	for _, row := range h.Truth.Rows {
		call, sent := first[row.Token]
		if !sent {
			continue // genuine says so
		}
		if at := known.before(call); at >= row.ID {
			broken.add("%s was sent at %v and is id %d, but position %d was known before", row.Token, call, row.ID, at)
		}
	}
	return broken
}

// firstCalls returns when each message could first take its id.
func firstCalls(h *history.History) map[string]time.Duration {
	first := map[string]time.Duration{}
	for _, s := range h.Sends {
		for _, m := range s.Messages {
			if call, again := first[m.Token]; !again || s.Call < call {
				first[m.Token] = s.Call
			}
		}
	}
	return first
}

// A mark is a position and when somebody outside knew of it.
type mark struct {
	at time.Duration
	id int64
}

type timeline []mark

// marks returns the highest position known at each time, ascending.
func marks(h *history.History) timeline {
	var all timeline
	for _, r := range h.Responses {
		all = append(all, mark{r.Return, r.Last})
	}
	for _, s := range h.Sends {
		for _, r := range s.Results {
			all = append(all, mark{s.Return, r.ID})
		}
	}
	slices.SortFunc(all, func(a, b mark) int { return int(a.at - b.at) })
	highest := int64(0)
	for i := range all {
		highest = max(highest, all[i].id)
		all[i].id = highest
	}
	return all
}

// before returns the highest position known before a time.
func (t timeline) before(at time.Duration) int64 {
	i, _ := slices.BinarySearchFunc(t, at, func(m mark, at time.Duration) int { return int(m.at - at) })
	if i == 0 {
		return 0
	}
	return t[i-1].id
}
