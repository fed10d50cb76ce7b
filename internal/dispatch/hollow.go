package dispatch

import (
	"slices"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// An interest is which channels are read here: of others the tail's reader may be given ids
// alone, and the window is hollow there. The Dispatcher's lock guards it.
//
// Who begins to read such a channel gets what is up to hollow from the table
// (TestLateReaderGetsWhatIsHollow). From its first reader on a channel is asked for, and for
// leftFor beyond the last one, so that who polls it finds the window whole
// (TestPolledChannelStaysInTheWindow).
type interest struct {
	hollow  bus.ID // up to here there may be settled ids above evicted that the window lacks
	leftFor time.Duration
	read    []*topic  // those with members
	left    []leaving // those without, for leftFor; at most readBound
	crowd   time.Time // until then, more have been left than that
	names   []string  // of read and left; nil: to be made

	asked  bool     // a read is under way that may leave out rows
	joined []*topic // which it did not ask for, though they are read by now
}

type leaving struct {
	topic *topic
	since time.Time
}

// reading is a topic's part in the interest.
type reading struct {
	lacks bus.ID // up to here there may be ids of the channel that the window lacks
	place int32  // in read, if there are members
	left  bool   // is among left
}

const (
	// leftFor is how long a channel without a reader is asked for.
	leftFor = time.Minute
	// readBound is how many channels are asked for; when more are read, everything is.
	readBound = 256
)

// isRead says that the channel is asked for.
func (t *topic) isRead() bool { return len(t.members) > 0 || t.left }

// lack notes that the window may lack ids of the channel up to id.
func (t *topic) lack(id bus.ID) {
	t.lacks = max(t.lacks, id)
	t.newest = max(t.newest, id)
}

// join notes that t has its first member.
func (w *window) join(t *topic) {
	if t.left {
		w.left = slices.DeleteFunc(w.left, func(l leaving) bool { return l.topic == t })
		t.left = false
	} else {
		t.lack(w.hollow)
		w.names = nil
		if w.asked {
			w.joined = append(w.joined, t)
		}
	}
	t.place = int32(len(w.read))
	w.read = append(w.read, t)
}

// leave notes that t has no members any more.
func (w *window) leave(t *topic) {
	end := len(w.read) - 1
	last := w.read[end]
	w.read[t.place], last.place = last, t.place
	w.read[end] = nil
	w.read = w.read[:end]
	if now := time.Now(); len(w.left) < readBound {
		w.left = append(w.left, leaving{t, now})
		t.left = true
	} else {
		w.crowd = now.Add(w.leftFor)
		w.names = nil
	}
	w.release(t)
}

// ask returns the channels that a read of the tail is to ask for; nil: all.
func (w *window) ask(now time.Time) []string {
	w.left = slices.DeleteFunc(w.left, func(l leaving) bool {
		if now.Sub(l.since) < w.leftFor {
			return false
		}
		l.topic.left = false
		w.names = nil
		w.release(l.topic)
		return true
	})
	w.answered()
	if len(w.read)+len(w.left) > readBound || now.Before(w.crowd) {
		return nil
	}
	if w.names == nil {
		w.names = make([]string, 0, len(w.read)+len(w.left))
		for _, t := range w.read {
			w.names = append(w.names, t.channel)
		}
		for _, l := range w.left {
			w.names = append(w.names, l.topic.channel)
		}
	}
	w.asked = true
	return w.names
}

// answered notes that no read is under way.
func (w *window) answered() {
	w.asked = false
	clear(w.joined)
	w.joined = w.joined[:0]
}

// hollowLocked notes that ids up to id are settled which the window lacks, of channels that
// were not asked for. Who has begun to read one of them meanwhile reads the table up to pos
// (TestReaderWhoComesDuringAHollowReadMissesNothing).
func (d *Dispatcher) hollowLocked(id bus.ID) {
	d.window.hollow = max(d.window.hollow, id)
	for _, t := range d.window.joined {
		t.lack(id)
		for _, m := range t.members {
			m.sub.unmarkLocked()
			m.sub.until = d.pos
			m.sub.ring()
		}
	}
}
