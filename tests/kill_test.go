package tests

import (
	"strings"
	"syscall"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestKillOfTheNodeRightAfterTheAnswerLosesNothing(t *testing.T) {
	url := pgtest.Database(t)
	other := startNode(t, url, nodeOptions{})
	stream := other.subscribe(t, 0, "orders")
	for _, text := range []string{"first", "second", "third"} {
		s := serve(t, url)
		send(t, s.bus, message("orders", text))
		s.signal(t, syscall.SIGKILL)
		stream.expect(text)
		s.code(t)
	}
	next := serve(t, url)
	equal(t, "the next node", textsOf(read(t, next.bus, 3, "orders")), []string{"first", "second", "third"})
}

func TestKillOfTheNodeAndTheDatabaseRightAfterTheAnswerLosesNothing(t *testing.T) {
	server := pgtest.Exclusive(t, nil)
	url := pgtest.DatabaseOn(t, server)
	s := serve(t, url)
	send(t, s.bus, message("orders", "first"), message("orders", "second"))
	s.signal(t, syscall.SIGKILL)
	must(t, server.StopImmediate(t.Context()))
	s.code(t)
	must(t, server.Restart(t.Context()))
	next := serve(t, url)
	send(t, next.bus, message("orders", "third"))
	equal(t, "after the recovery", textsOf(read(t, next.bus, 3, "orders")), []string{"first", "second", "third"})
}

func TestNodeOutlivesAnOutageOfTheDatabaseAndSaysSo(t *testing.T) {
	server := pgtest.Exclusive(t, nil)
	url := pgtest.DatabaseOn(t, server)
	s := serve(t, url)
	must(t, server.StopImmediate(t.Context()))
	var code int
	var page string
	until(t, "/readyz says that the database is away", func() bool {
		code, page = s.get(t, "/readyz")
		return code == 503
	})
	if !strings.HasPrefix(page, "not connected to the database: ") && !strings.HasPrefix(page, "connecting to the database") {
		t.Errorf("/readyz says %q", page)
	}
	if code, page := s.get(t, "/livez"); code != 200 || page != "ok\n" {
		t.Errorf("/livez says %d, %q: a restart would not help", code, page)
	}
	s.awaitMetric(t, "postbus_ready", 0)
	must(t, server.Restart(t.Context()))
	until(t, "/readyz says ready", func() bool {
		code, page = s.get(t, "/readyz")
		return code == 200 && page == "ready\n"
	})
	// A connection of before the outage may break in a send: that is repeated, with a key.
	until(t, "a send is stored", func() bool {
		_, err := s.bus.Send(short(t), sendRequest(keyed("orders", "first", "once")))
		return err == nil
	})
	equal(t, "after the outage", textsOf(read(t, s.bus, 1, "orders")), []string{"first"})
	s.stop(t)
}
