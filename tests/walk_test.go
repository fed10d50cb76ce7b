package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// An answer is a PollResponse in its JSON form, whichever transport gave it.
type answer struct {
	Notifications []struct {
		ID      int64
		Payload json.RawMessage
	}
	Last int64
	Gap  *struct {
		Reason       string
		After, Until int64
	}
}

func (a *answer) texts() []string {
	texts := make([]string, len(a.Notifications))
	for i, n := range a.Notifications {
		fmt.Sscanf(string(n.Payload), "%q", &texts[i])
	}
	return texts
}

// mustFollow checks that a, which came by how, goes on behind last: without a gap, nothing
// twice, no id above its own last.
func (a *answer) mustFollow(t testing.TB, how string, last int64) {
	t.Helper()
	if a.Gap != nil || a.Last < last {
		t.Fatalf("%s after %d: last %d, gap %v", how, last, a.Last, a.Gap)
	}
	for _, n := range a.Notifications {
		if n.ID <= last || n.ID > a.Last {
			t.Fatalf("%s after %d: id %d, last %d", how, last, n.ID, a.Last)
		}
	}
}

// pollJSON polls over HTTP; query is everything after channels and after.
func (n *node) pollJSON(t testing.TB, after int64, channel, query string) (a answer) {
	t.Helper()
	request, err := http.NewRequestWithContext(short(t), http.MethodGet,
		fmt.Sprintf("%s/v1/poll?channels=%s&after=%d%s", n.base, channel, after, query), nil)
	must(t, err)
	response, err := n.web.Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", response.Status, body)
	}
	must(t, json.Unmarshal(body, &a))
	return a
}

// pollSQL polls as an application does that has only its database.
func pollSQL(t testing.TB, conn *pgx.Conn, after int64, channel string, most int) (a answer) {
	t.Helper()
	must(t, json.Unmarshal(ask[[]byte](t, conn, "SELECT postbus.poll(ARRAY[$1], $2, $3)", channel, after, most), &a))
	return a
}

// pollRPC is the same over gRPC.
func (n *node) pollRPC(t testing.TB, after int64, channel string, most int32) (a answer) {
	t.Helper()
	response, err := n.rpc.Poll(short(t), &postbusv1.PollRequest{
		Channels: []string{channel}, After: &after, Max: new(most), Timeout: durationpb.New(0),
	})
	must(t, err)
	a.Last = response.GetLast()
	for _, got := range response.GetNotifications() {
		a.Notifications = append(a.Notifications, struct {
			ID      int64
			Payload json.RawMessage
		}{got.GetId(), json.RawMessage(got.GetJson())})
	}
	if gap := response.GetGap(); gap != nil {
		a.Gap = &struct {
			Reason       string
			After, Until int64
		}{gap.GetReason().String(), gap.GetAfter(), gap.GetUntil()}
	}
	return a
}

// G3: reading goes on by any transport on any node with the last of the one before:
// nothing is missed, nothing comes twice. Streams are dropped in the middle.
func TestReadingGoesOnByAnyTransportOnAnyNode(t *testing.T) {
	t.Parallel()
	const total, old = 900, 600
	url := pgtest.Database(t)
	// One of the nodes reads everything that is not the newest from the table.
	nodes := []*node{startNode(t, url, nodeOptions{}), startNode(t, url, nodeOptions{WindowBytes: 4 << 10})}
	conn, sender := sql(t, url), sql(t, url)

	// Two thirds are there and settled; the rest comes while it is read.
	all := numbered("m", total)
	var settled int64
	for _, text := range all[:old] {
		settled = nodes[0].send(t, message("walk", text), message("other", text))[0].GetId()
	}
	until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= settled })
	var sending sync.WaitGroup
	sending.Go(func() {
		for i, text := range all[old:] {
			switch i % 3 {
			case 0:
				do(t, sender, fmt.Sprintf(`SELECT postbus.send('walk', '"%s"')`, text))
			default:
				nodes[i%2].send(t, message("walk", text), message("other", text))
			}
		}
	})
	var texts []string
	var last int64
	hops := map[string]int{}
	take := func(how string, a answer) {
		t.Helper()
		hops[how] += len(a.Notifications)
		a.mustFollow(t, how, last)
		texts, last = append(texts, a.texts()...), a.Last
	}
	until(t, "everything is read", func() bool {
		n := nodes[rand.N(2)]
		switch rand.N(6) {
		case 0:
			take("gRPC", n.pollRPC(t, last, "walk", 6))
		case 1:
			take("JSON", n.pollJSON(t, last, "walk", "&timeout=0s&max=3"))
		case 2:
			take("long-poll", n.pollJSON(t, last, "walk", "&timeout=0.05s&max=5"))
		case 3:
			take("SQL", pollSQL(t, conn, last, "walk", 7))
		case 4:
			s := n.subscribe(t, last, "walk", "nobody")
			// Dropped within a response: the cursor is then the id that was taken last.
			for range min(rand.N(20), len(s.pending)) {
				got := s.next()
				hops["stream"]++
				texts, last = append(texts, textOf(got)), got.GetId()
			}
			s.cancel()
		case 5: // a browser that breaks off again and again
			events := n.events(t, "/v1/subscribe?"+query([]string{"walk"}, 0), fmt.Sprint(last))
			for range 1 + rand.N(10) {
				var a answer
				must(t, json.Unmarshal([]byte(events.next()), &a))
				take("events", a)
				if len(texts) >= total {
					break
				}
			}
			events.close()
		}
		return len(texts) >= total
	})
	sending.Wait()
	equal(t, "the walk", texts, numbered("m", total))
	t.Logf("messages by transport: %v", hops)
}
