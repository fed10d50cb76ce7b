package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service/odoo"
)

// What clients of 16 and later poll by where no WebSocket gets through.
func TestOdooPeeksNeverWait(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{Odoo: odoo.Options{Version: 17, Database: "o17"}})
	n.send(t, message("a", "old"), message("broadcast", "old"))
	read(t, n.rpc, 2, "a", "broadcast")
	floorOf(t, n.url, 2)
	do(t, sql(t, n.url), "UPDATE postbus.bus SET sent_at = sent_at - interval '60 s'")
	n.send(t, message("a", "young"), message("broadcast", "young"), message("c", "young"))
	read(t, n.rpc, 5, "a", "broadcast", "c")
	const path = "/websocket/peek_notifications"
	for _, c := range []struct{ channels, last, want string }{
		{`["a"]`, `0`, "3 4"}, // the last 50 s, and broadcast
		{`["a"]`, `false`, "3 4"},
		{`["a"]`, `-1`, "1 2 3 4"},
		{`["a"]`, `1`, "2 3 4"},
		{`["a"]`, `4`, ""},
		{`["a"]`, `6`, "3 4"}, // above every id: as 0
		{`["a","c"]`, `1099511627776`, "3 4 5"},
		{`[]`, `2`, "4"},
	} {
		for _, first := range []string{`true`, `false`} {
			got := idsIn(t, n.odooAt(t, path, fmt.Sprintf(`{"channels":%s,"last":%s,"is_first_poll":%s}`, c.channels, c.last, first)))
			if got != c.want {
				t.Errorf("channels %s, last %s: %q, want %q", c.channels, c.last, got, c.want)
			}
		}
	}
	want := `{"notifications":[{"id":5,"message":{"type":"","payload":"young"}}],"channels":[["o17","broadcast"],["o17","c"]]}`
	if got := string(n.odooAt(t, path, `{"channels":["broadcast","c"],"last":4}`).Result); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, c := range []struct{ params, name, says string }{
		{`{"channels":["a"]}`, "builtins.TypeError", "peek_notifications() missing 1 required positional argument: 'last'"},
		{`{"channels":[1],"last":0}`, "builtins.ValueError", "bus.Bus only string channels are allowed."},
		{`{"channels":null,"last":0}`, "builtins.TypeError", "'NoneType' object is not iterable"},
		{`{"channels":["a"],"last":null}`, "builtins.TypeError", "'>' not supported between instances of 'NoneType' and 'int'"},
		{`{"channels":["a"],"last":"0"}`, "builtins.TypeError", "'>' not supported between instances of 'str' and 'int'"},
		{`{"channels":["a "],"last":0}`, "postbus.INVALID_FIELD", "channels[0]: white space at an end"},
	} {
		n.odooAt(t, path, c.params).raises(t, c.params, 200, c.name, c.says)
	}
}

// A gap, for which the protocol has no place, takes nothing from the answer.
func TestOdooPeekReadsOnBehindAGap(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{Retention: time.Hour})
	n.send(t, message("a", "1"), message("a", "2"), message("a", "3"))
	read(t, n.rpc, 3, "a")
	n.stop()
	do(t, sql(t, url), "DELETE FROM postbus.bus WHERE id <= 2", "UPDATE postbus.state SET trimmed_to = 2, floor = 3")
	n = startNode(t, url, nodeOptions{Odoo: odoo.Options{Version: 18}})
	if got := idsIn(t, n.odooAt(t, "/websocket/peek_notifications", `{"channels":["a"],"last":1}`)); got != "3" {
		t.Errorf("%q", got)
	}
	if gaps := n.service.Stats().Gaps; gaps != 1 {
		t.Errorf("%d gaps: the test is none", gaps)
	}
}
