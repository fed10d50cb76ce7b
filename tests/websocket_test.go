package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A webSocket is a client of /v1/subscribe that upgrades.
type webSocket struct {
	t    testing.TB
	conn *websocket.Conn
}

// dialSocket opens a WebSocket of the HTTP side at base.
func dialSocket(t testing.TB, base, query string) webSocket {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(short(t), "ws"+strings.TrimPrefix(base, "http")+"/v1/subscribe?"+query, nil)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	return webSocket{t, conn}
}

func (ws webSocket) next() string {
	ws.t.Helper()
	_, text, err := ws.conn.ReadMessage()
	must(ws.t, err)
	return string(text)
}

func (ws webSocket) say(text string, args ...any) {
	ws.t.Helper()
	must(ws.t, ws.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, text, args...)))
}

// G3: a WebSocket goes on where a poll or another one has got to, on any node, and is gone on
// from; sockets are dropped in the middle, and change their channels.
func TestReadingGoesOnByWebSocketOnAnyNode(t *testing.T) {
	t.Parallel()
	const total = 600
	url := pgtest.Database(t)
	nodes := []*node{startNode(t, url, nodeOptions{}), startNode(t, url, nodeOptions{WindowBytes: 4 << 10})}
	all := numbered("m", total)
	var sending sync.WaitGroup
	sending.Go(func() {
		for i, text := range all {
			nodes[i%2].send(t, message("walk", text), message("other", text))
		}
	})
	var (
		texts []string
		last  int64
	)
	take := func(a answer) {
		t.Helper()
		a.mustFollow(t, "a walk", last)
		texts, last = append(texts, a.texts()...), a.Last
	}
	until(t, "everything is read", func() bool {
		n := nodes[rand.N(2)]
		if rand.N(3) == 0 {
			take(n.pollJSON(t, last, "walk", "&timeout=0s&max=3"))
			return len(texts) >= total
		}
		ws := dialSocket(t, n.base, query([]string{"walk"}, last))
		for range 1 + rand.N(10) {
			if len(texts) >= total {
				break
			}
			if rand.N(3) == 0 {
				ws.say(`{%q:{"channels":["nobody"]}}`, []string{"subscribe", "unsubscribe"}[rand.N(2)])
			}
			text := ws.next()
			var a answer
			must(t, json.Unmarshal([]byte(text), &a))
			if !strings.HasPrefix(text, `{"ack":`) {
				take(a)
			}
		}
		ws.conn.Close()
		return len(texts) >= total
	})
	sending.Wait()
	equal(t, "the walk", texts, all)
}

// G4: what retention took is told to a socket, once, behind the ack and before what is left.
func TestTrimmedMessagesAreToldToASocket(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{Retention: 2 * time.Second, WindowBytes: 1})
	ids, to := trimmed(t, n, url, numbered("gone", 10))
	kept := n.send(t, message("orders", "kept"))[0].GetId()
	conn := sql(t, url)
	until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= kept })
	ws := dialSocket(t, n.base, "")
	ws.say(`{"subscribe":{"channels":["orders"],"after":%d},"request":"1"}`, ids[2])
	if got, want := ws.next(), fmt.Sprintf(`{"ack":{"request":"1","last":%d}}`, ids[2]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	gaps, later := 0, int64(0)
	for reached := int64(0); later == 0 || reached < later; {
		var a answer
		must(t, json.Unmarshal([]byte(ws.next()), &a))
		if a.Gap != nil {
			gaps++
			if a.Gap.Reason != "REASON_TRIMMED" || a.Gap.After != ids[2] || a.Gap.Until != to {
				t.Errorf("gap %+v, want TRIMMED (%d, %d]", a.Gap, ids[2], to)
			}
		}
		for _, got := range a.Notifications {
			if gaps == 0 || got.ID <= to {
				t.Errorf("id %d, behind %d gaps up to %d", got.ID, gaps, to)
			}
		}
		if reached = a.Last; later == 0 && reached >= kept {
			later = n.send(t, message("orders", "later"))[0].GetId()
		}
	}
	if gaps != 1 {
		t.Errorf("%d gaps", gaps)
	}
}

// The program waits for its sockets: each has its last and a code before it exits.
func TestSIGTERMGivesEverySocketItsLast(t *testing.T) {
	t.Parallel()
	const sockets = 200
	s := serve(t, pgtest.Database(t), "--drain-timeout", "50s")
	var open []webSocket
	for i := range sockets {
		asked := "channels=read&heartbeat=50s"
		if i%10 == 0 {
			asked = ""
		}
		ws := dialSocket(t, s.httpURL, asked)
		if asked != "" {
			ws.next()
		}
		open = append(open, ws)
	}
	slow := dialSocket(t, s.httpURL, "channels=large&heartbeat=50s")
	slow.next()
	s.awaitMetric(t, "postbus_streams", sockets+1)
	for range 20 { // more than a connection's buffers hold
		send(t, s.bus, jsonMessage("large", `"`+strings.Repeat("x", 900<<10)+`"`))
	}
	head := send(t, s.bus, jsonMessage("other", "1"), jsonMessage("other", "2"))
	s.signal(t, syscall.SIGTERM)
	var reading sync.WaitGroup
	for i, ws := range open {
		reading.Go(func() {
			var said []string
			for {
				_, text, err := ws.conn.ReadMessage()
				if err == nil {
					said = append(said, string(text))
					continue
				}
				want := fmt.Sprintf(`[{"notifications":[],"last":%d}]`, head)
				if i%10 == 0 && len(said) == 1 && strings.Contains(said[0], `"reason":"DRAINING"`) {
					want = fmt.Sprint(said)
				}
				var closed *websocket.CloseError
				if !errors.As(err, &closed) || closed.Code != websocket.CloseServiceRestart || fmt.Sprint(said) != want {
					t.Errorf("socket %d: %v, then %v; want %s", i, said, err, want)
				}
				return
			}
		})
	}
	reading.Wait()
	// One that is slow is waited for, when all else has ended.
	until(t, "gRPC has ended", func() bool {
		conn, err := net.Dial("tcp", s.grpcAddr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	s.get(t, "/livez")
	var last page
	for {
		_, text, err := slow.conn.ReadMessage()
		if err != nil {
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != websocket.CloseServiceRestart || len(last.Notifications) != 0 || last.Last == 0 || last.Last > head {
				t.Errorf("the slow one: last %+v, then %v", last, err)
			}
			break
		}
		last = pageOf(t, text)
	}
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A client that reads nothing holds the program up for its time to drain, and no longer.
func TestSIGTERMIsNotHeldUpByASocketThatStalls(t *testing.T) {
	t.Parallel()
	s := serve(t, pgtest.Database(t), "--drain-timeout", "2s")
	ws := dialSocket(t, s.httpURL, "channels=read&heartbeat=50s")
	ws.next()
	text := `"` + strings.Repeat("x", 900<<10) + `"`
	for range 20 {
		send(t, s.bus, jsonMessage("read", text))
	}
	s.signal(t, syscall.SIGTERM)
	s.code(t) // it ends
}
