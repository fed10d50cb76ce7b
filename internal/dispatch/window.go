package dispatch

import (
	"sort"

	"github.com/postbus/postbus/internal/bus"
)

// A window is the newest part of the log in memory, bounded by bytes and indexed by
// channel. The Dispatcher's lock guards it.
type window struct {
	limit   int // bytes
	bytes   int
	log     []*bus.Notification // ids ascending; log[:start] has been evicted
	start   int
	evicted bus.ID // everything settled above this id is in the window, but for what is hollow
	topics  map[string]*topic
	quiet   map[string]bus.ID // channels without a topic: no id of theirs is above this and hollow

	interest
}

// A topic is one channel, as long as the window holds something of it or somebody
// subscribes to it.
type topic struct {
	channel string
	log     []*bus.Notification // of this channel in the window
	members []*member

	// No id of this channel is above newest, if bounded; while it is not read, none above
	// newest and hollow.
	newest  bus.ID
	bounded bool

	reading
}

// quietBound is how many channels are remembered to be quiet.
const quietBound = 1 << 16

func (w *window) init(limit int) {
	w.limit = limit
	w.topics = make(map[string]*topic)
	w.quiet = make(map[string]bus.ID)
	w.leftFor = leftFor
}

func (w *window) len() int { return len(w.log) - w.start }

// reset empties the window; everything above pos will be appended.
func (w *window) reset(pos bus.ID) {
	for _, n := range w.log[w.start:] {
		if t := w.topics[n.Channel]; t != nil {
			t.log = nil
			w.release(t)
		}
	}
	w.log, w.start, w.bytes = nil, 0, 0
	w.evicted = pos
}

// forget makes every channel one that may hold anything.
func (w *window) forget() {
	for _, t := range w.topics {
		t.bounded = false
	}
	clear(w.quiet)
}

// append adds n and returns its topic.
func (w *window) append(n *bus.Notification) *topic {
	t := w.topic(n.Channel)
	t.log = append(t.log, n)
	t.newest, t.bounded = n.ID, true
	w.log = append(w.log, n)
	w.bytes += n.Size()
	return t
}

// topic returns the channel's topic, made if need be. Who gets it and neither appends
// nor becomes a member releases it.
func (w *window) topic(channel string) *topic {
	t := w.topics[channel]
	if t == nil {
		t = &topic{channel: channel}
		if newest, ok := w.quiet[channel]; ok {
			t.newest, t.bounded = newest, true
			delete(w.quiet, channel)
		}
		w.topics[channel] = t
	}
	return t
}

// release forgets t when nothing needs it, but for how quiet it is.
func (w *window) release(t *topic) {
	if len(t.log) > 0 || t.isRead() || w.topics[t.channel] != t {
		return
	}
	delete(w.topics, t.channel)
	if !t.bounded {
		return
	}
	if len(w.quiet) >= quietBound {
		for channel := range w.quiet {
			delete(w.quiet, channel)
			break
		}
	}
	w.quiet[t.channel] = t.newest
}

// evict takes out the oldest until the window is within its bound again; the newest
// one stays, whatever its size.
func (w *window) evict() {
	for w.bytes > w.limit && w.len() > 1 {
		n := w.log[w.start]
		w.log[w.start] = nil
		w.start++
		w.bytes -= n.Size()
		w.evicted = n.ID
		t := w.topics[n.Channel]
		t.log[0] = nil
		t.log = t.log[1:]
		w.release(t)
	}
	if w.start > 1024 && w.start > len(w.log)/2 {
		rest := copy(w.log, w.log[w.start:])
		clear(w.log[rest:])
		w.log, w.start = w.log[:rest], 0
	}
}

// after returns what the window holds of t above id. The slice is for use under the
// lock.
func (t *topic) after(id bus.ID) []*bus.Notification {
	return t.log[sort.Search(len(t.log), func(i int) bool { return t.log[i].ID > id }):]
}

// quietSince says that nothing of this channel is above id.
func (t *topic) quietSince(id bus.ID) bool { return t.bounded && t.newest <= id }

// learn takes over what a complete read of the table up to the settled id until has
// shown: no id of the channel up to there is above newest. What was appended since is in
// bounded and newest.
func (t *topic) learn(newest, until bus.ID) {
	if !t.bounded || t.newest <= until {
		t.newest, t.bounded = newest, true
	}
}
