package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestOdooPollAnswersInTheShapeOf15(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	code, _ := n.post(t, "/v1/send", `{"messages":[{"channel":"orders","type":"paid","payload":{"order": 7}}]}`)
	if code != 200 {
		t.Fatal(code)
	}
	for _, c := range []struct{ body, want string }{
		{`{"jsonrpc":"2.0","method":"call","params":{"channels":["orders"],"last":0,"options":{"bus_inactivity":337}},"id":7}`, `{"jsonrpc":"2.0","id":7,"result":[{"id":1,"message":{"type":"paid","payload":{"order":7}}}]}`},
		{`{"params":{"channels":["orders"],"last":0},"id":"seven"}`, `{"jsonrpc":"2.0","id":"seven","result":[{"id":1,"message":{"type":"paid","payload":{"order":7}}}]}`},
		{`{"params":{"channels":["orders","zz"],"last":1,"options":{"peek":true}},"id":null}`, `{"jsonrpc":"2.0","id":null,"result":{"notifications":[],"channels":["orders","zz"]}}`},
		{`{"params":{"channels":["orders"],"last":0,"options":{"peek":true},"context":{"lang":"nl"},"more":1}}`, `{"jsonrpc":"2.0","id":null,"result":{"notifications":[{"id":1,"message":{"type":"paid","payload":{"order":7}}}],"channels":["orders"]}}`},
	} {
		for _, kind := range []string{"application/json", "application/json-rpc", "application/json; charset=utf-8"} {
			resp, answer := n.asks(t, asking{"POST", "/longpolling/poll", c.body, []string{"Content-Type", kind, "Origin", "https://shop.example"}})
			h := resp.Header
			if resp.StatusCode != 200 || answer != c.want || h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != "POST" {
				t.Errorf("%s: %s %v\n got %s\nwant %s", c.body, resp.Status, h, answer, c.want)
			}
		}
	}
	if resp, answer := n.asks(t, asking{"GET", "/longpolling/poll", `{"params":{"channels":["orders"],"last":0}}`, []string{"Content-Type", "application/json"}}); resp.StatusCode != 200 || !strings.Contains(answer, `"result":[{"id":1`) {
		t.Errorf("GET: %s %s", resp.Status, answer)
	}
}

// peek is the ids that a peek from last finds in channels, as Odoo's client writes them.
func (n *node) peek(t *testing.T, channels, last string) string {
	t.Helper()
	answer := n.odoo(t, fmt.Sprintf(`{"channels":%s,"last":%s,"options":{"peek":true}}`, channels, last))
	var result struct {
		Notifications []struct{ ID int64 }
	}
	if answer.Error != nil {
		t.Fatalf("channels %s, last %s: %+v", channels, last, answer.Error)
	}
	must(t, json.Unmarshal(answer.Result, &result))
	ids := make([]string, len(result.Notifications))
	for i, n := range result.Notifications {
		ids[i] = fmt.Sprint(n.ID)
	}
	return strings.Join(ids, " ")
}

func TestOdooLastAndChannelsMeanWhatTheyMeanThere(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	n.send(t, message("a", "old"), message("b", "old"))
	read(t, n.rpc, 2, "a", "b")
	do(t, sql(t, url), "UPDATE postbus.bus SET sent_at = sent_at - interval '60 s'")
	n.send(t, message("a", "young"), message("c", "young"))
	read(t, n.rpc, 4, "a", "b", "c")
	for _, c := range []struct{ channels, last, want string }{
		{`["a","b","c"]`, `0`, "3 4"}, // the last 50 s
		{`["a","b","c"]`, `false`, "3 4"},
		{`["a","b","c"]`, `"0"`, "1 2 3 4"},
		{`["a","b","c"]`, `-1`, "1 2 3 4"},
		{`["a","b","c"]`, `1`, "2 3 4"},
		{`["a","b","c"]`, `"2"`, "3 4"},
		{`["a","b","c"]`, `2.0`, "3 4"},
		{`["a","b","c"]`, `4`, ""},
		{`["a","b","c"]`, `null`, ""},
		{`["a"]`, `-1`, "1 3"},
		{`["a","a"]`, `-1`, "1 3"},
		{`"abc"`, `-1`, "1 2 3 4"}, // a string is its characters
		{`{"b":1,"c":2}`, `-1`, "2 4"},
		{`[]`, `-1`, ""},
		{`{}`, `0`, ""},
	} {
		if got := n.peek(t, c.channels, c.last); got != c.want {
			t.Errorf("channels %s, last %s: %q, want %q", c.channels, c.last, got, c.want)
		}
	}
}

func TestOdooErrorsAreThoseItsClientCanRead(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	for params, says := range map[string]string{
		`{"channels":[1],"last":0}`:                                   "bus.Bus only string channels are allowed.",
		`{"channels":["a",null],"last":0}`:                            "bus.Bus only string channels are allowed.",
		`{"channels":null,"last":0}`:                                  "'NoneType' object is not iterable",
		`{"channels":7,"last":0}`:                                     "'int' object is not iterable",
		`{"channels":["a"]}`:                                          "missing 1 required positional argument: 'last'",
		`{"last":0}`:                                                  "missing 1 required positional argument: 'channels'",
		`{"channels":["a"],"last":0.5}`:                               "invalid input syntax for type integer",
		`{"channels":["a"],"last":"x"}`:                               "invalid input syntax for type integer",
		`{"channels":["a"],"last":1e300}`:                             "out of range",
		`{"channels":["a"],"last":0,"options":[1]}`:                   "'list' object has no attribute 'get'",
		`{"channels":["a"],"last":0,"options":"peek"}`:                "'str' object has no attribute 'get'",
		`{"channels":["` + strings.Repeat("x", 256) + `"],"last":0}`:  "256 bytes, at most 255",
		`{"channels":["postbus:x"],"last":0,"options":{"peek":true}}`: "reserved",
	} {
		answer := n.odoo(t, params)
		if e := answer.Error; answer.Result != nil || e == nil || e.Code != 200 || e.Message != "Odoo Server Error" || e.Data.Name == "" ||
			!strings.Contains(e.Data.Message, says) || len(e.Data.Arguments) != 1 || e.Data.Arguments[0] != e.Data.Message || e.Data.Context == nil {
			t.Errorf("%.80s: %+v, want one that says %q", params, e, says)
		}
	}
	for body, reason := range map[string]string{
		`{`: "MALFORMED_JSON", ``: "MALFORMED_JSON", `[]`: "INVALID_FIELD", `{"params":[]}`: "INVALID_FIELD", `{"params":null}`: "INVALID_FIELD",
	} {
		resp, answer := n.asks(t, asking{"POST", "/longpolling/poll", body, nil})
		refused(t, resp, answer, 400, reason)
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: a page cannot read the refusal", body)
		}
	}
	resp, answer := n.asks(t, asking{"POST", "/longpolling/poll", "channels=a", []string{"Content-Type", "application/x-www-form-urlencoded"}})
	refused(t, resp, answer, 400, "UNSUPPORTED_MEDIA_TYPE")

	resp, answer = n.asks(t, asking{"OPTIONS", "/longpolling/poll", "", []string{"Origin", "https://shop.example", "Access-Control-Request-Method", "POST"}})
	h := resp.Header
	if resp.StatusCode != 200 || answer != "" || h.Get("Access-Control-Max-Age") != "86400" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != "POST" ||
		h.Get("Access-Control-Allow-Headers") != "Origin, X-Requested-With, Content-Type, Accept, Authorization" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %s %v", resp.Status, h)
	}
	if resp, answer := n.asks(t, asking{"POST", "/longpolling/send", `{"params":{"channel":"a","message":1}}`, nil}); resp.StatusCode != 404 {
		t.Errorf("/longpolling/send, which 15 does not have: %s %s", resp.Status, answer)
	}
}

func TestOdooPollsWakeEachOneOnASend(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	const waiters = 3
	answers := make(chan string, waiters)
	for range waiters {
		go func() {
			_, answer := n.post(t, "/longpolling/poll", `{"params":{"channels":["orders"],"last":0}}`)
			answers <- answer
		}()
	}
	until(t, "all wait", func() bool { return n.service.Stats().OpenPolls == waiters })
	n.send(t, message("other", "for nobody"))
	n.send(t, message("orders", "paid"))
	for range waiters {
		// Not woken they would wait 50 s, longer than this test does.
		if answer := <-answers; answer != `{"jsonrpc":"2.0","id":null,"result":[{"id":2,"message":{"type":"","payload":"paid"}}]}` {
			t.Errorf("%s", answer)
		}
	}
	idle := make(chan string, 1)
	go func() {
		_, answer := n.post(t, "/longpolling/poll", `{"params":{"channels":["orders"],"last":2}}`)
		idle <- answer
	}()
	until(t, "it waits", func() bool { return n.service.Stats().OpenPolls == 1 })
	go n.stop()
	if answer := <-idle; answer != `{"jsonrpc":"2.0","id":null,"result":[]}` {
		t.Errorf("a poll that a stop cuts short: %s", answer)
	}
}
