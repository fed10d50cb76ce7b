package dispatch

import "github.com/postbus/postbus/internal/bus"

// A tracker finds which gaps in the ids can fill no more. It belongs to one
// connection: a restart of the server may give prepared transactions new names.
//
// For each holder it keeps a bound: all ids that the holder may still commit are above
// it. A holder not seen in the previous probe took its lock after that probe began,
// so its ids are above everything known by then. In the first probe, and for one
// that was recovered (and may have had another name), the bound is pos. Ids up to
// the lowest bound, and up to the highest id known when the holders were asked, are
// then decided: their transaction has let go of its lock, which it does only after it
// is visible or void. A read that begins after the probe shows them as they will be
// for ever (TestTrackerNeverSettlesWhatMayStillCommit).
type tracker struct {
	bounds map[string]bus.ID
	known  bus.ID // the highest id known when the previous probe began
	probed bool
	floor  bus.ID // every id up to here is decided
}

// observe takes one probe: its holders, the highest id known before it, and pos.
func (t *tracker) observe(holders []Holder, known, pos bus.ID) {
	bounds := make(map[string]bus.ID, len(holders))
	floor := known
	for _, h := range holders {
		bound, seen := t.bounds[h.Transaction]
		switch {
		case seen:
		case h.Recovered || !t.probed:
			bound = pos
		default:
			bound = t.known
		}
		bounds[h.Transaction] = bound
		floor = min(floor, bound)
	}
	t.bounds, t.known, t.probed = bounds, known, true
	t.floor = max(t.floor, floor)
}
