package tests

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// What after means: absent is now, 0 is the oldest, any other id is behind that one,
// though the window has long moved on; last moves over other channels' ids.
func TestAfterSaysWhereReadingBegins(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{WindowBytes: 1})
	var ids []int64
	texts := numbered("m", 50)
	for _, text := range texts {
		ids = append(ids, n.send(t, message("orders", text), message("other", text))[0].GetId())
	}
	equal(t, "poll after 0", textsOf(n.poll(t, 0, "orders").GetNotifications()), texts)
	equal(t, "poll after an old id", textsOf(n.poll(t, ids[9], "orders").GetNotifications()), texts[10:])
	n.subscribe(t, 0, "orders").expect(texts...)
	n.subscribe(t, ids[9], "orders").expect(texts[10:]...)
	answer := n.poll(t, ids[49], "orders")
	if len(answer.GetNotifications()) != 0 || answer.GetLast() != ids[49]+1 {
		t.Fatalf("after the newest: %v, want nothing and last %d, the newest id of another channel", answer, ids[49]+1)
	}
	now, err := n.rpc.Poll(short(t), &postbusv1.PollRequest{Channels: []string{"orders"}, Timeout: durationpb.New(0)})
	must(t, err)
	if len(now.GetNotifications()) != 0 || now.GetLast() < ids[49] {
		t.Fatalf("without after: %v, want nothing and last at the present", now)
	}
	reader := n.subscribe(t, -1, "orders")
	n.send(t, message("orders", "then"))
	reader.expect("then")
}

// trimmed sends texts, waits until retention has taken them, and returns their ids and how
// far trimmed_to is.
func trimmed(t *testing.T, n *node, url string, texts []string) (ids []int64, to int64) {
	t.Helper()
	for _, text := range texts {
		ids = append(ids, n.send(t, message("orders", text))[0].GetId())
	}
	conn := sql(t, url)
	until(t, "retention has taken them", func() bool {
		to = ask[int64](t, conn, "SELECT trimmed_to FROM postbus.state")
		return to >= ids[len(ids)-1]
	})
	return ids, to
}

// G4: what retention took is told on every transport, before what is left, and never to
// those who asked for the oldest.
func TestTrimmedMessagesAreToldAsAGap(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{Retention: 2 * time.Second, WindowBytes: 1})
	ids, to := trimmed(t, n, url, numbered("gone", 10))
	kept := n.send(t, message("orders", "kept"))[0].GetId()
	conn := sql(t, url)
	until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= kept })

	var told answer
	events := n.events(t, "/v1/subscribe?"+query([]string{"orders"}, 0), fmt.Sprint(ids[2]))
	must(t, json.Unmarshal([]byte(events.next()), &told))
	for how, a := range map[string]answer{
		"SSE":  told,
		"gRPC": n.pollRPC(t, ids[2], "orders", 100),
		"JSON": n.pollJSON(t, ids[2], "orders", "&timeout=50s"), // a gap is answered at once
		"SQL":  pollSQL(t, conn, ids[2], "orders", 100),
	} {
		if a.Gap == nil || a.Gap.Reason != "REASON_TRIMMED" || a.Gap.After != ids[2] || a.Gap.Until != to || a.Last < to {
			t.Errorf("%s: %+v, gap %+v; want TRIMMED (%d, %d]", how, a, a.Gap, ids[2], to)
		}
		for _, got := range a.Notifications {
			if got.ID <= to {
				t.Errorf("%s: id %d beside a gap up to %d", how, got.ID, to)
			}
		}
	}
	s := n.subscribe(t, ids[2], "orders")
	if len(s.gaps) != 1 || s.gaps[0].GetReason() != postbusv1.Gap_REASON_TRIMMED || s.gaps[0].GetUntil() != to {
		t.Errorf("stream: gaps %v, want TRIMMED up to %d", s.gaps, to)
	}
	s.expect("kept")
	for how, a := range map[string]answer{
		"gRPC": n.pollRPC(t, 0, "orders", 100), "JSON": n.pollJSON(t, 0, "orders", "&timeout=0s"), "SQL": pollSQL(t, conn, 0, "orders", 100),
	} {
		if a.Gap != nil {
			t.Errorf("%s from the oldest: gap %+v", how, a.Gap)
		}
	}
	if oldest := n.subscribe(t, 0, "orders"); len(oldest.gaps) != 0 {
		t.Errorf("stream from the oldest: gaps %v", oldest.gaps)
	}
}

// G4: retention that works while a reader reads takes nothing in silence: every id is
// given or within a gap.
func TestRetentionBesideAReaderIsNeverSilent(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{WindowBytes: 1})
	var messages []*postbusv1.Message
	for _, text := range numbered("m", 500) {
		messages = append(messages, message("orders", text))
	}
	first := n.send(t, message("orders", "begin"))[0].GetId()
	var newest int64
	for range 4 {
		results := n.send(t, messages...)
		newest = results[len(results)-1].GetId()
	}
	conn := sql(t, url)
	until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= newest })
	// Another node, whose retention is over at once, takes about as much as is read.
	trimmer, err := postgres.Open(short(t), postgres.Options{URL: url, Retention: time.Nanosecond})
	must(t, err)
	defer trimmer.Close()

	accounted := map[int64]bool{}
	cursor, gaps, given := first, 0, 0
	for cursor < newest {
		var taken sync.WaitGroup
		taken.Go(func() {
			_, err := trimmer.TrimBatch(short(t), 1+rand.Int32N(20))
			check(t, err)
		})
		a := n.pollRPC(t, cursor, "orders", 9)
		if a.Gap != nil {
			gaps++
			if a.Gap.Reason != "REASON_TRIMMED" || a.Gap.After > cursor || a.Gap.Until <= cursor {
				t.Fatalf("after %d: gap %+v", cursor, a.Gap)
			}
			for id := a.Gap.After + 1; id <= a.Gap.Until; id++ {
				accounted[id] = true
			}
		}
		for _, got := range a.Notifications {
			given++
			if got.ID <= cursor || a.Gap != nil && got.ID <= a.Gap.Until {
				t.Fatalf("after %d: id %d, gap %+v", cursor, got.ID, a.Gap)
			}
			accounted[got.ID] = true
		}
		cursor = a.Last
		taken.Wait()
	}
	for id := first + 1; id <= newest; id++ {
		if !accounted[id] {
			t.Fatalf("id %d was neither given nor told", id)
		}
	}
	if gaps == 0 || given == 0 {
		t.Fatalf("%d gaps, %d given: retention and the reader did not meet", gaps, given)
	}
}

// A message whose ttl is over is hidden, from the table and from the window, and that is
// no gap.
func TestExpiredMessagesAreHiddenWithoutAGap(t *testing.T) {
	t.Parallel()
	for name, window := range map[string]int{"window": 0, "table": 1} {
		t.Run(name, func(t *testing.T) {
			url := pgtest.Database(t)
			n := startNode(t, url, nodeOptions{WindowBytes: window})
			conn := sql(t, url)
			brief := message("orders", "brief")
			brief.Ttl = durationpb.New(500 * time.Millisecond)
			first := n.send(t, message("orders", "before"), brief, message("orders", "after"))[0].GetId()
			do(t, conn, `SELECT postbus.send('orders', '"brief by SQL"', ttl => '300 ms')`)
			until(t, "both are over", func() bool {
				return ask[int64](t, conn, `SELECT count(*) FROM postbus.bus WHERE expires_at > clock_timestamp()`) == 0
			})
			last := n.send(t, message("orders", "end"))[0].GetId()
			until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= last })
			for how, a := range map[string]answer{
				"gRPC": n.pollRPC(t, first, "orders", 100), "JSON": n.pollJSON(t, first, "orders", "&timeout=0s"), "SQL": pollSQL(t, conn, first, "orders", 100),
			} {
				if a.Gap != nil || fmt.Sprint(a.texts()) != "[after end]" {
					t.Errorf("%s: %q, gap %+v", how, a.texts(), a.Gap)
				}
			}
			n.subscribe(t, 0, "orders").expect("before", "after", "end")
		})
	}
}
