package tests

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// missed asks until the node follows the tail, which it does not for a moment when the first
// id of a new history makes it connect again.
func (n *node) missed(t *testing.T, last string) string {
	t.Helper()
	var answer odooAnswer
	until(t, "the node follows the tail", func() bool {
		answer = n.odooAt(t, "/bus/has_missed_notifications", `{"last_notification_id":`+last+`}`)
		return answer.Error == nil || answer.Error.Data.Name != "postbus.DATABASE_UNAVAILABLE"
	})
	if answer.Error != nil {
		t.Fatalf("%s: %+v", last, answer.Error)
	}
	return string(answer.Result)
}

// True if something above the id may be gone. Odoo asks whether that one notification is
// still there, which is true of a client that lags by one and has missed nothing.
func TestOdooClientsLearnThatTheyMayHaveMissedSomething(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{Retention: time.Hour})
	n.send(t, message("a", "1"), message("a", "2"), message("a", "3"), message("a", "4"))
	read(t, n.rpc, 4, "a")
	check := func(when string, want map[string]string) {
		t.Helper()
		for last, want := range want {
			if got := n.missed(t, last); got != want {
				t.Errorf("%s, %s: %s, want %s", when, last, got, want)
			}
		}
	}
	check("nothing is gone", map[string]string{"0": "false", "-1": "false", "false": "false", "1": "false", "4": "false", "5": "true", "1099511627776": "true"})
	conn := sql(t, url)
	do(t, conn, "UPDATE postbus.bus SET sent_at = sent_at - interval '2 hours' WHERE id <= 2")
	floorOf(t, url, 4)
	if _, err := n.db.TrimBatch(short(t), 100); err != nil {
		t.Fatal(err)
	}
	until(t, "retention has taken them", func() bool { return ask[int64](t, conn, "SELECT trimmed_to FROM postbus.state") == 2 })
	until(t, "the answer is that of another second", func() bool { return n.missed(t, "1") == "true" })
	check("retention took two", map[string]string{"1": "true", "2": "false", "3": "false", "4": "false", "5": "true"})

	n.stop()
	if got := run(t, command(t, "migrate", "--database-url", url, "--new-history")); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	n = startNode(t, url, nodeOptions{Retention: time.Hour})
	last := n.send(t, message("a", "5"))[0].Id
	n.reaches(t, last)
	check("a new history", map[string]string{"4": "true", fmt.Sprint(last): "false"})
	n.odooAt(t, "/bus/has_missed_notifications", `{}`).raises(t, "no id", 200, "builtins.TypeError", "missing 1 required positional argument: 'last_notification_id'")
}

// A client of an early 18 warns if lastcall is not before the moment at which it was cut
// off, and asks again from nextcall on.
func TestOdooAutovacuumInfoIsThatOfTheRetention(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{Retention: time.Hour})
	var info struct {
		ID       int
		Lastcall string
		Nextcall string
	}
	before := time.Now().Truncate(time.Second)
	must(t, json.Unmarshal(n.odooAt(t, "/bus/get_autovacuum_info", `{}`).Result, &info))
	last, err := time.Parse(time.DateTime, info.Lastcall)
	must(t, err)
	next, err := time.Parse(time.DateTime, info.Nextcall)
	must(t, err)
	if info.ID != 1 || next.Sub(last) != time.Hour || next.Before(before) || next.After(time.Now()) {
		t.Errorf("%+v at %v", info, before.UTC())
	}
}
