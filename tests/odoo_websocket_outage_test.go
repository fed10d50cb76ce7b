package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/proxy"
)

// TestOdooSocketStaysOpenThroughAnOutage: what is sent meanwhile at another node comes when the
// database is back.
func TestOdooSocketStaysOpenThroughAnOutage(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	network, through := startProxy(t, url)
	cut, other := startNode(t, through, nodeOptions{Fallback: time.Second}), startNode(t, url, nodeOptions{})
	s := cut.odooSocket(t)
	s.subscribe(0, "a")
	other.send(t, message("a", "before"))
	if ids := s.ids(t); fmt.Sprint(ids) != "[1]" {
		t.Fatalf("%d", ids)
	}
	network.Set(proxy.Weather{Cut: true})
	until(t, "the node has noticed", func() bool { return !cut.dispatcher.State().Connected })
	other.send(t, message("a", "meanwhile"))
	s.handled(t)
	network.Set(proxy.Weather{})
	if ids := s.ids(t); fmt.Sprint(ids) != "[2]" {
		t.Errorf("%d", ids)
	}
}
