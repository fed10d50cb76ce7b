package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A stored is a message that was answered.
type stored struct {
	id   int64
	text string
}

// A past is what became of a channel whose database lost its newest messages.
type past struct {
	channel  string
	survived []stored
	lost     []stored
	fresh    []stored // sent in the new history
}

// bound is the last id before the new history's first.
func (p *past) bound() int64 { return p.fresh[0].id>>32<<32 - 1 }

// head is the newest id.
func (p *past) head() int64 { return p.fresh[len(p.fresh)-1].id }

// cursors are those that somebody may hold.
func (p *past) cursors() map[string]int64 {
	survived, lost := p.survived[len(p.survived)-1].id, p.lost[len(p.lost)-1].id
	return map[string]int64{
		"the oldest": 0, "old": p.survived[1].id, "survived - 1": survived - 1, "survived": survived, "survived + 1": survived + 1,
		"in what is lost": p.lost[0].id, "head of what is lost": lost, "between": lost + 1000,
		"bound - 1": p.bound() - 1, "bound": p.bound(), "first": p.fresh[0].id, "head": p.head(),
		"far above": p.head() + 1<<40,
	}
}

// wants is what a reader must see from after on: texts, and gaps in their place.
func (p *past) wants(after int64) (events []string) {
	if after > p.head() {
		return []string{"REASON_AHEAD"}
	}
	for _, s := range p.survived {
		if s.id > after {
			events = append(events, s.text)
		}
	}
	if after < p.bound() {
		events = append(events, fmt.Sprint("REASON_HISTORY ", p.bound()))
	}
	for _, s := range p.fresh {
		if s.id > after {
			events = append(events, s.text)
		}
	}
	return events
}

// check reads from every cursor by every transport: nothing that survived is missed or
// comes twice, nothing that was lost comes, and the loss is told in its place to everyone
// who stands below it.
func (p *past) check(t *testing.T, n *node, conn *pgx.Conn) {
	t.Helper()
	until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= p.head() })
	readers := map[string]func(after int64) (next func(after int64) answer){
		"Subscribe": func(after int64) func(int64) answer {
			s, err := n.rpc.Subscribe(short(t), &postbusv1.SubscribeRequest{Channels: []string{p.channel}, After: &after})
			must(t, err)
			return func(int64) answer {
				response, err := s.Recv()
				must(t, err)
				return answerOf(response.GetNotifications(), response.GetLast(), response.GetGap())
			}
		},
		"lines": func(after int64) func(int64) answer {
			lines := n.lines(t, "/v1/subscribe?"+query([]string{p.channel}, after))
			return func(int64) (a answer) {
				must(t, json.Unmarshal([]byte(lines.next()), &a))
				return a
			}
		},
		"events": func(after int64) func(int64) answer {
			events := n.events(t, "/v1/subscribe?"+query([]string{p.channel}, after), "")
			return func(int64) (a answer) {
				must(t, json.Unmarshal([]byte(events.next()), &a))
				return a
			}
		},
		"Poll": func(int64) func(int64) answer {
			return func(after int64) answer { return n.pollRPC(t, after, p.channel, 2) }
		},
		"GET /v1/poll": func(int64) func(int64) answer {
			return func(after int64) answer { return n.pollJSON(t, after, p.channel, "&timeout=0s&max=2") }
		},
		"postbus.poll": func(int64) func(int64) answer {
			return func(after int64) answer { return pollSQL(t, conn, after, p.channel, 2) }
		},
	}
	for how, open := range readers {
		for which, after := range p.cursors() {
			got, want := p.read(t, open(after), after), p.wants(after)
			if !slices.Equal(got, want) {
				t.Errorf("%s after %d (%s): %q, want %q", how, after, which, got, want)
			}
		}
	}
}

// read reads up to the head and returns what came.
func (p *past) read(t *testing.T, next func(after int64) answer, after int64) (events []string) {
	t.Helper()
	ahead := after > p.head()
	for begun := time.Now(); ahead || after < p.head(); {
		if time.Since(begun) > longest { // heartbeats alone
			t.Fatalf("at %d within %v, after %q", after, longest, events)
		}
		a := next(after)
		id := after
		if a.Gap != nil {
			ahead = false
			event := a.Gap.Reason
			if event != "REASON_AHEAD" {
				event = fmt.Sprint(event, " ", a.Gap.Until)
			}
			events, id = append(events, event), a.Gap.Until
		}
		for _, n := range a.Notifications {
			if n.ID <= id {
				t.Errorf("id %d after %d", n.ID, id)
			}
			id = n.ID
		}
		if a.Last < id {
			t.Errorf("last %d is below %d", a.Last, id)
		}
		events, after = append(events, a.texts()...), a.Last
	}
	return events
}

func answerOf(notifications []*postbusv1.Notification, last int64, gap *postbusv1.Gap) (a answer) {
	a.Last = last
	for _, n := range notifications {
		a.Notifications = append(a.Notifications, struct {
			ID      int64
			Payload json.RawMessage
		}{n.GetId(), json.RawMessage(n.GetJson())})
	}
	if gap != nil {
		a.Gap = &struct {
			Reason       string
			After, Until int64
		}{gap.GetReason().String(), gap.GetAfter(), gap.GetUntil()}
	}
	return a
}

// awaitGap reads until a gap is told.
func (s *stream) awaitGap() {
	s.t.Helper()
	for begun := time.Now(); len(s.gaps) == 0; s.receive() {
		if time.Since(begun) > longest { // heartbeats alone
			s.t.Fatalf("stream at %d: no gap within %v", s.last, longest)
		}
	}
}

// expectLoss checks what a stream that was connected all the time was given: the loss as
// one gap, and then what is fresh.
func (s *stream) expectLoss(p *past) {
	s.t.Helper()
	for _, f := range p.fresh {
		s.expect(f.text)
	}
	last := p.survived[len(p.survived)-1].id
	if len(s.gaps) != 1 || s.gaps[0].GetReason() != postbusv1.Gap_REASON_HISTORY || s.gaps[0].GetUntil() != p.bound() || s.gaps[0].GetAfter() != last {
		s.t.Errorf("the stream was told %v, want one HISTORY (%d, %d]", s.gaps, last, p.bound())
	}
}
