package service_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// While messages flow, sockets add and remove channels at random. Each is given every
// message of a channel once that lies behind the ack of its adding and up to the ack of its
// removing, ids ascending, and none of what lies outside.
func TestSocketChannelsChangeWhileMessagesFlow(t *testing.T) {
	t.Parallel()
	const (
		sockets  = 6
		channels = 8
		sends    = 1000
		burst    = 40 // messages of every tenth send; of the others 1
	)
	n := start(t, pgtest.Database(t), nodeOptions{WindowBytes: 2 << 10}) // so that some is read from the table
	names := numbers(channels)
	sent := make(map[string][]int64, channels)
	var clients sync.WaitGroup
	clients.Add(sockets)
	flowing := make(chan struct{})
	histories := make([]*socketHistory, sockets)
	for i := range histories {
		histories[i] = &socketHistory{ws: n.socket(t, "?heartbeat=1s&channels="+names[i%channels])}
		go func() {
			defer clients.Done()
			histories[i].run(names, names[i%channels], flowing)
		}()
	}
	var newest int64
	for i := range sends {
		size := 1
		if i%10 == 0 {
			size = burst
		}
		var messages []*postbusv1.Message
		for range size {
			messages = append(messages, jsonMessage(names[rand.IntN(channels)], "1"))
		}
		resp, err := n.client.Send(short(t), &postbusv1.SendRequest{Messages: messages})
		must(t, err)
		for i, result := range resp.Results {
			newest = result.Id
			sent[messages[i].Channel] = append(sent[messages[i].Channel], newest)
		}
	}
	close(flowing)
	for _, h := range histories {
		h.last(newest)
	}
	clients.Wait()
	if t.Failed() {
		return
	}
	changes := 0
	for i, h := range histories {
		changes += h.changes
		want := 0
		for channel, ids := range sent {
			for _, id := range ids {
				if due := h.due(channel, id); due != h.given[id] {
					t.Fatalf("socket %d: %d of channel %s: due %v, given %v; had %v", i, id, channel, due, h.given[id], h.had[channel])
				} else if due {
					want++
				}
			}
		}
		if len(h.given) != want {
			t.Errorf("socket %d was given %d notifications, want %d", i, len(h.given), want)
		}
	}
	if changes < sockets*10 || n.dispatcher.State().Pages == 0 {
		t.Errorf("%d changes, %d pages: the changes and the traffic did not meet", changes, n.dispatcher.State().Pages)
	}
}

// A span is from where to where a channel was there; to is -1 while it is.
type span struct{ from, to int64 }

// A socketHistory is what one client has seen.
type socketHistory struct {
	ws      webSocket
	given   map[int64]bool
	had     map[string][]span
	newest  int64 // id that was given
	at      int64 // the position
	changes int

	mu  sync.Mutex
	end int64 // read up to here; 0: not known yet
}

func (h *socketHistory) last(id int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end = id
}

func (h *socketHistory) due(channel string, id int64) bool {
	for _, s := range h.had[channel] {
		if id > s.from && (s.to < 0 || id <= s.to) {
			return true
		}
	}
	return false
}

func (h *socketHistory) see(f serverFrame) {
	if f.Gap != nil {
		h.ws.t.Errorf("a gap: %s", f.text)
	}
	for _, got := range f.Notifications {
		spans := h.had[got.Channel]
		if got.ID <= h.newest || len(spans) == 0 || spans[len(spans)-1].to >= 0 {
			h.ws.t.Errorf("%d of channel %s behind %d, which had %v", got.ID, got.Channel, h.newest, spans)
		}
		h.newest = got.ID
		h.given[got.ID] = true
	}
	if *f.Last < h.at || *f.Last < h.newest {
		h.ws.t.Errorf("last %d behind %d and the id %d", *f.Last, h.at, h.newest)
	}
	h.at = *f.Last
}

// run changes the channels until flowing is closed, then has all of them and reads up to the end.
func (h *socketHistory) run(names []string, first string, flowing <-chan struct{}) {
	h.given = make(map[int64]bool)
	h.had = make(map[string][]span)
	opening := h.ws.next()
	h.had[first] = []span{{*opening.Last, -1}}
	if len(opening.Notifications) > 0 {
		h.ws.t.Errorf("from now on: %s", opening.text)
	}
	for {
		select {
		case <-flowing:
			h.add(names)
			for {
				h.mu.Lock()
				end := h.end
				h.mu.Unlock()
				if end > 0 && h.at >= end {
					return
				}
				f, err := h.ws.read()
				if err != nil {
					h.ws.t.Error(err)
					return
				}
				h.see(f)
			}
		default:
		}
		some := []string{names[rand.IntN(len(names))], names[rand.IntN(len(names))]}
		if rand.IntN(2) == 0 {
			h.add(some)
		} else {
			h.remove(some)
		}
		h.changes++
		for range rand.IntN(3) {
			h.see(h.ws.next())
		}
	}
}

func (h *socketHistory) add(names []string) {
	at := h.change("subscribe", names)
	for _, name := range names {
		if spans := h.had[name]; len(spans) == 0 || spans[len(spans)-1].to >= 0 {
			h.had[name] = append(spans, span{at, -1})
		}
	}
	h.see(h.ws.next())
}

func (h *socketHistory) remove(names []string) {
	at := h.change("unsubscribe", names)
	for _, name := range names {
		if spans := h.had[name]; len(spans) > 0 && spans[len(spans)-1].to < 0 {
			spans[len(spans)-1].to = at
		}
	}
}

// change says a frame and returns the position where it was acked.
func (h *socketHistory) change(what string, names []string) int64 {
	request := fmt.Sprint(h.changes)
	h.ws.say(`{%q:{"channels":["%s"]},"request":%q}`, what, strings.Join(names, `","`), request)
	at := h.ws.acked(request, h.see)
	if at < h.at {
		h.ws.t.Errorf("acked at %d, behind %d", at, h.at)
	}
	h.at = at
	return at
}

// A change does not wait until a socket that is behind has caught up, from the window or
// from the table, and its ack says how far the channels that go were given.
func TestSocketChangesWhileItCatchesUp(t *testing.T) {
	t.Parallel()
	for name, windowBytes := range map[string]int{"window": 0, "table": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, pgtest.Database(t), nodeOptions{WindowBytes: windowBytes})
			text := `"` + strings.Repeat("x", stalledText) + `"`
			var ids []int64
			for range stalledTotal {
				ids = append(ids, n.send(t, jsonMessage("c", text)))
			}
			ws := n.stingySocket(t, "?channels=c&channels=d&after=0")
			given := ws.ids(1)
			if windowBytes == 0 { // from here on its owner gives it what the window has
				until(t, "it holds a courier up", func() bool { return n.dispatcher.State().Stalls > 0 })
				taken := n.dispatcher.State().Delivered
				given = append(given, ws.ids(4)...)
				until(t, "its owner gives", func() bool { return n.dispatcher.State().Delivered > taken })
			}
			ws.say(`{"unsubscribe":{"channels":["c"]},"request":"1"}`)
			at := ws.acked("1", func(f serverFrame) {
				for _, got := range f.Notifications {
					given = append(given, got.ID)
				}
			})
			if len(given) == stalledTotal || given[len(given)-1] != at {
				t.Errorf("was given %v of %v, and then the ack at %d", given, ids, at)
			}
			ws.say(`{"unsubscribe":{"channels":["d"]},"request":"2"}`)
			ws.acked("2", func(f serverFrame) {
				if !f.beats() {
					t.Errorf("behind the ack: %.80s", f.text)
				}
			})
			ws.say(`{"subscribe":{"channels":["c"],"after":%d},"request":"3"}`, at)
			ws.acked("3")
			if given = append(given, ws.ids(stalledTotal-len(given))...); fmt.Sprint(given) != fmt.Sprint(ids) {
				t.Errorf("was given %v, want %v", given, ids)
			}
		})
	}
}
