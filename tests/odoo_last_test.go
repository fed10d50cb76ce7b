package tests

import (
	"fmt"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestOdooLastAndChannelsMeanWhatTheyMeanThere(t *testing.T) {
	t.Parallel()
	nodes := odooVersions(t, 13, 14, 15)
	n := nodes[15]
	n.send(t, message("a", "old"), message("b", "old"))
	for _, n := range nodes {
		read(t, n.rpc, 2, "a", "b")
	}
	floorOf(t, n.url, 2)
	do(t, sql(t, n.url), "UPDATE postbus.bus SET sent_at = sent_at - interval '60 s'")
	n.send(t, message("a", "young"), message("c", "young"))
	for version, n := range nodes {
		read(t, n.rpc, 4, "a", "b", "c")
		for _, c := range []struct{ channels, last, want string }{
			{`["a","b","c"]`, `0`, "3 4"}, // the last 50 s
			{`["a","b","c"]`, `false`, "3 4"},
			{`["a","b","c"]`, `"0"`, "1 2 3 4"},
			{`["a","b","c"]`, `-1`, "1 2 3 4"},
			{`["a","b","c"]`, `1`, "2 3 4"},
			{`["a","b","c"]`, `true`, "2 3 4"},
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
			{`["a","b","c"]`, `1099511627776`, ""}, // above every id: from now on
		} {
			if got := n.peek(t, c.channels, c.last); got != c.want {
				t.Errorf("%d: channels %s, last %s: %q, want %q", version, c.channels, c.last, got, c.want)
			}
		}
	}
}

// A client that comes from Odoo's own bus has a higher id than this database has given, and
// keeps it, as the highest that it has seen. It waits without being answered at once again
// and again, and gets what is sent meanwhile.
func TestOdooClientAheadOfEveryIDGetsWhatIsSentWhileItWaits(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	n.send(t, message("a", "before"))
	read(t, n.rpc, 1, "a")
	answer := n.waiting(t, `{"channels":["a"],"last":5000000}`)
	until(t, "it has begun at the present", func() bool { return n.service.Stats().Gaps == 1 })
	n.send(t, message("a", "then"))
	if got := <-answer; got != `{"jsonrpc":"2.0","id":null,"result":[{"id":2,"message":{"type":"","payload":"then"}}]}` {
		t.Errorf("%s", got)
	}
}

// What docs/odoo.md says to do before clients of Odoo's own bus are moved here: in a new
// history ids begin above all of Odoo's, and every client's id is one to go on from.
func TestOdooClientsMissNothingWhenANewHistoryBeginsAboveTheirIDs(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	if got := run(t, command(t, "migrate", "--database-url", url, "--new-history")); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	n := startNode(t, url, nodeOptions{})
	id := n.send(t, message("a", "first"))[0].Id
	n.reaches(t, id)
	if id <= 1<<31 {
		t.Fatalf("id %d is one that Odoo can have given", id)
	}
	for _, last := range []string{"5000000", "2147483647", "-1"} {
		if got := n.peek(t, `["a"]`, last); got != fmt.Sprint(id) {
			t.Errorf("after %s: %q, want %d", last, got, id)
		}
	}
}

// reaches waits until the node has settled id.
func (n *node) reaches(t *testing.T, id int64) {
	t.Helper()
	until(t, "the node has settled the id", func() bool { return int64(n.dispatcher.State().Pos) >= id })
}
