package tests

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestOdooSocketHandshake(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	for _, c := range []struct {
		method, changes string
		status          int
	}{
		{"GET", "", 101},
		{"GET", "Origin=null", 101},
		{"GET", "Connection=upgrade", 101},
		{"GET", "Upgrade=h2c, WebSocket", 101},
		{"GET", "User-Agent=", 101},
		{"GET", "Cookie=", 101},
		{"GET", "Connection=", 400},
		{"GET", "Connection=keep-alive", 400},
		{"GET", "Upgrade=", 400},
		{"GET", "Upgrade=h2c", 400},
		{"GET", "Origin=", 400},
		{"GET", "Host=", 400},
		{"GET", "Host=evil.example", 403},
		{"GET", "Sec-WebSocket-Key=", 400},
		{"GET", "Sec-WebSocket-Key=c2hvcnQ=", 400},
		{"GET", "Sec-WebSocket-Key=not base64 of 16 byte", 400},
		{"GET", "Sec-WebSocket-Version=", 400},
		{"GET", "Sec-WebSocket-Version=8", 426},
		{"POST", "", 405},
		{"OPTIONS", "", 200},
	} {
		var changes []string
		if name, value, ok := strings.Cut(c.changes, "="); ok {
			changes = []string{name, value}
		}
		resp, s := n.odooHandshake(t, c.method, "/websocket?version=17.0-1", changes...)
		h := resp.Header
		if resp.StatusCode != c.status || c.status != 403 && h.Get("Access-Control-Allow-Origin") != "*" && c.changes != "Host=" {
			t.Errorf("%s %s: %s %v, want %d", c.method, c.changes, resp.Status, h, c.status)
		}
		switch c.status {
		case http.StatusSwitchingProtocols:
			if h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || h.Get("Sec-WebSocket-Extensions") != "" ||
				h.Get("Sec-WebSocket-Protocol") != "" || h.Get("Set-Cookie") != "" {
				t.Errorf("%s: %v", c.changes, h)
			}
			s.handled(t)
		case http.StatusUpgradeRequired:
			if h.Get("Sec-WebSocket-Version") != "13" {
				t.Errorf("426: %v", h)
			}
		case http.StatusMethodNotAllowed:
			if h.Get("Allow") != "GET" {
				t.Errorf("405: %v", h)
			}
		}
	}
}

func TestOdooSocketGivesArraysOfNotifications(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	s := n.odooSocket(t)
	s.subscribe(0, "b", "a", "a")
	s.handled(t)
	n.send(t, jsonMessage("other", "0"))
	code, answer := n.post(t, "/v1/send", `{"messages":[{"channel":"a","type":"high","payload":{"n": 12345678901234567890.0}},
		{"channel":"broadcast","type":"to all"},{"channel":"b","type":"bytes","binary":"iVA="}]}`)
	if code != 200 {
		t.Fatal(answer)
	}
	s.expect(t, opText, `[{"id":2,"message":{"type":"high","payload":{"n":12345678901234567890.0}}},`+
		`{"id":3,"message":{"type":"to all","payload":null}},{"id":4,"message":{"type":"bytes","payload":"iVA="}}]`)
	s.subscribe(4) // no channel but broadcast
	s.handled(t)
	n.send(t, jsonMessage("a", "5"))
	n.send(t, jsonMessage("broadcast", "6"))
	s.expect(t, opText, `[{"id":6,"message":{"type":"","payload":6}}]`)
}

// replay opens a socket and returns what it is given at once from last in the channels a, b
// and c.
func (n *node) replay(t *testing.T, last string) (ids []int64) {
	t.Helper()
	s := n.odooSocket(t)
	defer s.conn.Close()
	s.text(`{"event_name":"subscribe","data":{"channels":["a","b","c"],"last":` + last + `}}`)
	marker := n.send(t, jsonMessage("broadcast", "null"))[0].Id
	for len(ids) == 0 || ids[len(ids)-1] < marker {
		ids = append(ids, s.ids(t)...)
	}
	return slices.DeleteFunc(ids, func(id int64) bool { return id >= marker })
}

// age makes everything older than 50 s but the newest message, which a node would miss: it
// remembers when that was sent.
func age(t *testing.T, url string) {
	t.Helper()
	do(t, sql(t, url), "UPDATE postbus.bus SET sent_at = sent_at - interval '60 s' WHERE id < (SELECT max(id) FROM postbus.bus)")
}

func TestOdooSocketLastMeansWhatItMeansThere(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	n.send(t, message("a", "old"), message("b", "old"), message("z", "newest"))
	floorOf(t, url, 3)
	age(t, url)
	n.send(t, message("a", "young"), message("c", "young"), message("z", "young"))
	read(t, n.rpc, 4, "a", "b", "c")
	for _, c := range []struct {
		last string
		want string
	}{
		{"0", "[4 5]"}, {"false", "[4 5]"}, {"0.5", "[4 5]"}, // the last 50 s
		{"-1", "[1 2 4 5]"}, {"-7", "[1 2 4 5]"},
		{"1", "[2 4 5]"}, {"true", "[2 4 5]"}, {"1.0", "[2 4 5]"}, {"4", "[5]"}, {"4.7", "[5]"}, {"5", "[]"}, {"6", "[]"},
	} {
		// The markers of broadcast of before are in the last 50 s, too.
		got := slices.DeleteFunc(n.replay(t, c.last), func(id int64) bool { return id > 6 })
		if fmt.Sprint(got) != c.want {
			t.Errorf("last %s: %v, want %s", c.last, got, c.want)
		}
	}
	for _, last := range []string{"1099511627776", "1e300"} { // above every id, as after a restore
		if got := n.replay(t, last); fmt.Sprint(got[:2]) != "[4 5]" {
			t.Errorf("last %s: %v, want the last 50 s", last, got)
		}
	}
}

// TestOdooSocketChannelsThatAreAddedBeginAtTheLastNotification: nothing that came since is
// left out, and nothing comes twice.
func TestOdooSocketChannelsThatAreAddedBeginAtTheLastNotification(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	n.send(t, message("b", "old"), message("z", "newest")) // 1, 2
	floorOf(t, url, 2)
	age(t, url)
	s := n.odooSocket(t)
	s.subscribe(0, "a")
	s.handled(t)
	n.send(t, message("b", "just before the page subscribes to it")) // 3
	n.send(t, message("c", "for others"))                            // 4
	read(t, n.rpc, 2, "b", "c")
	s.subscribe(0, "a", "b") // still without a notification: again the last 50 s
	if ids := s.ids(t); fmt.Sprint(ids) != "[3]" {
		t.Errorf("channels added before the first notification: %d, want the last 50 s of them", ids)
	}
	n.send(t, message("d", "while it is not read")) // 5
	n.send(t, message("a", "read"))                 // 6
	if ids := s.ids(t); fmt.Sprint(ids) != "[6]" {
		t.Errorf("%d", ids)
	}
	n.send(t, message("d", "since the last notification")) // 7
	read(t, n.rpc, 2, "d")
	s.subscribe(3, "a", "d") // the client does not know 6 yet
	if ids := s.ids(t); fmt.Sprint(ids) != "[7]" {
		t.Errorf("%d, want what came since the last notification", ids)
	}
	for _, last := range []int64{0, -1, 3, 7} {
		s.subscribe(last, "a", "b", "d")
	}
	s.handled(t)
	n.send(t, message("e", "8"), message("e", "9"))
	read(t, n.rpc, 2, "e")
	s.subscribe(1_000, "a", "e") // what this socket never gave is not believed
	if ids := s.ids(t); fmt.Sprint(ids) != "[8 9]" {
		t.Errorf("%d, want nothing twice and nothing left out", ids)
	}
}

func TestOdooSocketIgnoresWhatIsInvalid(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	channels := strings.Repeat(`"c",`, 1000)
	for i, frame := range []string{
		``, `{`, `[]`, `null`, `7`, `{}`, `{"event_name":7}`, `{"event_name":null}`, `{"event_name":"subscribe"}`,
		`{"event_name":"subscribe","data":[]}`, `{"event_name":"subscribe","data":null}`,
		`{"event_name":"subscribe","data":{"last":0}}`, `{"event_name":"subscribe","data":{"channels":["b"]}}`,
		`{"event_name":"subscribe","data":{"channels":["b"],"last":null}}`,
		`{"event_name":"subscribe","data":{"channels":["b"],"last":"0"}}`,
		`{"event_name":"subscribe","data":{"channels":["b"],"last":[]}}`,
		`{"event_name":"subscribe","data":{"channels":["b",1],"last":0}}`,
		`{"event_name":"subscribe","data":{"channels":["b",["a"]],"last":0}}`,
		`{"event_name":"subscribe","data":{"channels":null,"last":0}}`,
		`{"event_name":"subscribe","data":{"channels":"b","last":0}}`,
		`{"event_name":"subscribe","data":{"channels":["\ud800"],"last":0}}`,
		`{"event_name":"subscribe","data":{"channels":["` + strings.Repeat("b", 256) + `"],"last":0}}`,
		`{"event_name":"subscribe","data":{"channels":["postbus:b"],"last":0}}`,
		`{"event_name":"subscribe","data":{"channels":[` + channels + `"b"],"last":0}}`,
		`{"event_name":"update_presence","data":{"inactivity_period":5,"im_status_ids_by_model":{}}}`,
		`{"event_name":"other","data":{"channels":["b"],"last":0}}`,
		strings.Repeat("[", 100_000),
	} {
		s := n.odooSocket(t)
		s.subscribe(0, fmt.Sprint("a", i))
		s.text(frame)
		s.write(odooFrame(0x80|opBinary, "\x00"), odooFrame(0x80|opBinary, "\xff"))
		s.handled(t)
		id := n.send(t, jsonMessage("b", "0"), jsonMessage(fmt.Sprint("a", i), "1"))[1].Id
		if ids := s.ids(t); len(ids) != 1 || ids[0] != id {
			t.Errorf("behind %.80s: got %d, want %d: what was subscribed to before", frame, ids, id)
		}
		s.conn.Close()
	}
}

// TestOdooSocketWaitsForACursorOfAnotherNode: such a last is no unknown one, for which the last
// 50 s would come again.
func TestOdooSocketWaitsForACursorOfAnotherNode(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := sql(t, url)
	ahead := startNode(t, url, nodeOptions{})
	ahead.asleep(t)
	first := sleepers(t, conn)
	behind := startNode(t, url, nodeOptions{})
	until(t, "both nodes sleep", func() bool { return len(sleepers(t, conn)) == 2 })
	thaw := freeze(t, conn, slices.DeleteFunc(sleepers(t, conn), func(pid int) bool { return pid == first[0] })[0])
	id := ahead.send(t, message("orders", "one"), message("orders", "two"))[0].GetId()
	s := behind.odooSocket(t)
	s.subscribe(id, "orders")
	s.handled(t)
	until(t, "it walks", func() bool { return behind.dispatcher.State().Subscriptions == 1 })
	if pos := behind.dispatcher.State().Pos; int64(pos) >= id {
		t.Fatalf("the frozen node is at %d, not behind %d", pos, id)
	}
	thaw()
	if ids := s.ids(t); len(ids) != 1 || ids[0] != id+1 {
		t.Errorf("got %d, want %d", ids, id+1)
	}
}
