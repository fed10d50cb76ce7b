package dispatch

import (
	"cmp"
	"slices"

	"github.com/postbus/postbus/internal/bus"
)

// seen returns what of held and of the rows is visible up to where the read was cut, ids
// ascending. A read that shows nothing says nothing: retention may have taken all of it.
func (r Rows) seen(held []*bus.Notification) []*bus.Notification {
	rows := r.Notifications
	if r.count() == 0 || len(held) == 0 {
		return rows
	}
	if r.Full {
		end, _ := slices.BinarySearchFunc(held, highest(rows, r.Hollow), byID)
		held = held[:end]
	}
	seen := make([]*bus.Notification, 0, len(rows)+len(held))
	for len(rows) > 0 && len(held) > 0 {
		switch order := cmp.Compare(rows[0].ID, held[0].ID); {
		case order < 0:
			seen, rows = append(seen, rows[0]), rows[1:]
		case order == 0: // read back
			rows = rows[1:]
		default:
			seen, held = append(seen, held[0]), held[1:]
		}
	}
	return append(append(seen, rows...), held...)
}

func (r Rows) count() int { return len(r.Notifications) + len(r.Hollow) }

// highest returns the highest id of both, which ascend; 0: there is none.
func highest(rows []*bus.Notification, hollow []bus.ID) (id bus.ID) {
	if n := len(rows); n > 0 {
		id = rows[n-1].ID
	}
	if n := len(hollow); n > 0 {
		id = max(id, hollow[n-1])
	}
	return id
}

// lowest returns the lowest id of both, of which one at least is not empty, and whose it is.
func lowest(rows []*bus.Notification, hollow []bus.ID) (id bus.ID, isHollow bool) {
	if len(rows) == 0 || len(hollow) > 0 && hollow[0] < rows[0].ID {
		return hollow[0], true
	}
	return rows[0].ID, false
}

// above returns those of ns, which ascend, that are above id.
func above(ns []*bus.Notification, id bus.ID) []*bus.Notification {
	at, _ := slices.BinarySearchFunc(ns, id+1, byID)
	return ns[at:]
}
