package tests

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// poolSize is default_pool_size of the bouncers below: fewer server processes than clients.
const poolSize = 4

// G2, G3, G5, G7, G10: two nodes and SQL senders behind PgBouncer, in every mode that has transactions. The nodes poll,
// and leave nothing in the sessions that they share.
func TestNodeBehindPgBouncerDeliversEverything(t *testing.T) {
	t.Parallel()
	pool := fmt.Sprint("default_pool_size = ", poolSize)
	modes := map[string][]string{
		"transaction":        {"pool_mode = transaction", pool},
		"transaction, reset": {"pool_mode = transaction", pool, "server_reset_query_always = 1"},
		"session":            {"pool_mode = session", "default_pool_size = 60"},
	}
	if bouncerPrepares(t) { // 0 was the default once
		modes["transaction, nothing prepared"] = []string{"pool_mode = transaction", pool, "max_prepared_statements = 0"}
	}
	for name, lines := range modes {
		t.Run(name, func(t *testing.T) {
			url := pgtest.Database(t)
			b := startBouncer(t, pgtest.Server(t), lines...)
			via, application := b.through(t, url)
			n, other := startNode(t, via, nodeOptions{}), startNode(t, via, nodeOptions{})
			if n.dispatcher.State().Listening {
				t.Error("the node believes that it can listen")
			}
			texts := traffic(t, n, application, n.subscribe(t, 0, "load"), other.subscribe(t, -1, "load", "other"))
			if !slices.Contains(texts, "in a transaction") || slices.Contains(texts, "rolled back") || slices.Contains(texts, "again") {
				t.Error("the transactions are not delivered as they ended")
			}
			everyWay(t, n, application)

			direct := sql(t, url)
			until(t, "no lock of a session is left", func() bool {
				return ask[int](t, direct, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 0
			})
			if strings.HasPrefix(name, "transaction") {
				for _, server := range servers(t, application, poolSize) {
					left := ask[string](t, server, `SELECT concat_ws(', ', (SELECT string_agg(p.name, ' ') FROM pg_prepared_statements p WHERE NOT p.from_sql AND p.name !~ '^PGBOUNCER'),
						(SELECT string_agg(c, ' ') FROM pg_listening_channels() c), (SELECT string_agg(s.name || '=' || s.setting, ' ') FROM pg_settings s
						WHERE s.source = 'session' AND lower(s.name) NOT IN ('application_name', 'client_encoding', 'datestyle', 'timezone', 'standard_conforming_strings')))`)
					if left != "" {
						t.Errorf("left in a session that others get: %s", left)
					}
				}
			}
		})
	}
}

// traffic runs senders of every kind until much was answered, and transactions of an application at url. It returns what
// the readers, all the same, were given.
func traffic(t *testing.T, n *node, url string, readers ...*stream) []string {
	t.Helper()
	texts := make([][]string, len(readers))
	var reading sync.WaitGroup
	for i, r := range readers {
		reading.Go(func() { texts[i] = r.untilEnd() })
	}
	l := disturbed(t, n, url, 1, func() {
		do(t, sql(t, url), "BEGIN", `SELECT postbus.send('load', '"in a transaction"', key => 'k')`, `SELECT postbus.send('other', '"in it, too"')`, "COMMIT",
			"BEGIN", `SELECT postbus.send('load', '"rolled back"', key => 'free')`, "ROLLBACK",
			`SELECT postbus.send('load', '"again"', key => 'k')`, `SELECT postbus.send('load', '"freed"', key => 'free')`)
	})
	reading.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, others := range texts[1:] {
		equal(t, "another reader", slices.DeleteFunc(others, func(text string) bool { return text == "in it, too" }), texts[0])
	}
	for _, text := range []string{"in a transaction", "freed"} {
		l.answered[text] = true
	}
	l.check(t, texts[0])
	return texts[0]
}

// everyWay sends by every way in and reads it by every way out.
func everyWay(t *testing.T, n *node, url string) {
	t.Helper()
	var channels, want []string
	for _, in := range waysIn(t, n, url) {
		must(t, in.json(in.name, marshalText(in.name)))
		channels, want = append(channels, in.name), append(want, marshalText(in.name))
	}
	for out, read := range waysOut(t, n, url) {
		var got []string
		for _, a := range read(channels, len(channels)) {
			got = append(got, string(a.Payload))
		}
		equal(t, out, got, want)
	}
}

func marshalText(text string) string { return fmt.Sprintf("%q", text) }

// G1, G3, G7: PgBouncer is killed and started again, three times under load: streams stay open, what was answered is
// delivered once and in order.
func TestRestartsOfPgBouncerUnderLoadLoseNothingThatWasAnswered(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	b := startBouncer(t, pgtest.Server(t), "pool_mode = transaction", fmt.Sprint("default_pool_size = ", poolSize))
	via, application := b.through(t, url)
	n := startNode(t, via, nodeOptions{})
	reader := n.subscribe(t, 0, "load")
	texts := make(chan []string, 1)
	go func() { texts <- reader.untilEnd() }()
	l := disturbed(t, n, application, 3, func() { b.restart(t) })
	l.check(t, <-texts)
	if n.dispatcher.State().Reconnects < 3 {
		t.Errorf("%d reconnects of the tail for 3 restarts", n.dispatcher.State().Reconnects)
	}
}

// pollingSaid is what the log says of a tail behind a pooler.
const pollingSaid = "polling instead of listening"

// G10: the program says once, and /metrics and /readyz always, that it polls; the migration goes through the pooler, too.
func TestProgramBehindPgBouncerSaysThatItPolls(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.Server(t), "pool_mode = transaction")
	via, application := b.through(t, pgtest.Database(t))
	for range 2 {
		if got := run(t, command(t, "migrate", "--database-url", via, "--max-body", "100000")); got.code != 0 {
			t.Fatalf("migrate through PgBouncer: %+v", got)
		}
	}
	s := serve(t, via)
	s.awaitMetric(t, "postbus_tail_listening", 0)
	b.restart(t)
	until(t, "the tail is connected anew", func() bool {
		_, page := s.get(t, "/metrics")
		return strings.Contains(page, "\npostbus_tail_connected 1\n") && !strings.Contains(page, "\npostbus_tail_reconnects_total 0\n")
	})
	if code, said := s.get(t, "/readyz"); code != 200 || !strings.Contains(said, "polling") {
		t.Errorf("/readyz says %d %q", code, said)
	}
	do(t, sql(t, application), `SELECT postbus.send('orders', '"sent"')`)
	equal(t, "behind it", textsOf(read(t, s.bus, 1, "orders")), []string{"sent"})
	if times := strings.Count(s.Stderr.String(), pollingSaid); times != 1 {
		t.Errorf("the log says %d times that it polls, want once", times)
	}
	s.stop(t)
}

// G10: with a direct --listen-url beside the pooled one the node listens, sleeps and is woken by senders behind the pooler.
func TestListenURLGoesAroundPgBouncer(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	b := startBouncer(t, pgtest.Server(t), "pool_mode = transaction")
	via, application := b.through(t, url)
	s := serve(t, via, "--listen-url", url)
	s.awaitMetric(t, "postbus_tail_listening", 1)
	if strings.Contains(s.Stderr.String(), pollingSaid) {
		t.Error("the log says that it polls")
	}
	s.stop(t)

	n := startNode(t, via, nodeOptions{ListenURL: url}) // its fallback is an hour away
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, application)
	for round := range 10 {
		n.asleep(t)
		text := fmt.Sprint("round", round)
		if round%2 == 0 {
			n.send(t, message("orders", text))
		} else {
			do(t, conn, fmt.Sprintf(`SELECT postbus.send('orders', '"%s"')`, text))
		}
		reader.expect(text)
	}
}

// In statement mode there are no transactions, and so no Postbus.
func TestStatementPoolingIsRefused(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.Server(t), "pool_mode = statement")
	via, _ := b.through(t, pgtest.Database(t))
	for _, name := range []string{"serve", "migrate"} {
		got := run(t, command(t, name, "--database-url", via))
		if got.code != 1 || !oneLine(got.stderr) || !strings.Contains(got.stderr, "statement pooling") {
			t.Errorf("%s: %+v, want 1 and one line that says why", name, got)
		}
	}
}
