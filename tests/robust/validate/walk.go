package validate

import (
	"slices"
	"time"

	"github.com/postbus/postbus/tests/robust/history"
)

// A step is one response and the cursor that its reader had before it, behind the gap
// that the response tells, if any.
type step struct {
	history.Response
	from int64
}

// walk returns a chain's steps. A reader without a cursor begins where its first
// response says, and one at 0, which asks for the oldest, where retention has left it.
func walk(h *history.History, chain string) []step {
	var steps []step
	at := history.Absent
	for _, r := range h.Of(chain) {
		if at == history.Absent {
			at = r.After
		}
		if at == history.Absent {
			at = begins(r)
		}
		from := at
		if r.After == 0 {
			from = min(begins(r), h.Truth.TrimmedTo)
		}
		if r.Gap != nil {
			from = max(from, r.Gap.Until)
		}
		steps = append(steps, step{r, from})
		at = r.Last
	}
	return steps
}

// begins returns the position in front of what a response gives.
func begins(r history.Response) int64 {
	if len(r.Notifications) > 0 {
		return r.Notifications[0].ID - 1
	}
	return r.Last
}

// passed returns the rows of the chain's channels that a step moves over without giving
// them, although they were not expired when it came.
func passed(h *history.History, chain *history.Chain, s step) []history.Row {
	given := make(map[int64]bool, len(s.Notifications))
	for _, n := range s.Notifications {
		given[n.ID] = true
	}
	var missed []history.Row
	for _, row := range between(h.Truth.Rows, s.from, s.Last) {
		if !given[row.ID] && chain.Reads(row.Channel) && !expired(row, s.Return) {
			missed = append(missed, row)
		}
	}
	return missed
}

// expired reports whether a row may be hidden at a time.
func expired(row history.Row, at time.Duration) bool { return row.Expires > 0 && row.Expires <= at }

// between returns the rows with ids in (after, until].
func between(rows []history.Row, after, until int64) []history.Row {
	at := func(id int64) int {
		i, _ := slices.BinarySearchFunc(rows, id+1, func(r history.Row, id int64) int {
			switch {
			case r.ID < id:
				return -1
			case r.ID > id:
				return 1
			}
			return 0
		})
		return i
	}
	if until <= after {
		return nil
	}
	return rows[at(after):at(until)]
}
