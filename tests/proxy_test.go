package tests

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/proxy"
)

// startProxy returns a proxy to the database at url, and the URL that leads through it.
func startProxy(t *testing.T, url string) (*proxy.Proxy, string) {
	t.Helper()
	p, err := proxy.Start(url)
	must(t, err)
	t.Cleanup(p.Close)
	return p, p.URL
}

// G1, G7: when the answer to a commit is lost, nobody is told that nothing was stored, and
// the same key finds out.
func TestLostAnswerOfACommitIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	p, through := startProxy(t, url)
	n := startNode(t, through, nodeOptions{ListenURL: url})
	reader := n.subscribe(t, -1, "orders")
	n.send(t, message("orders", "before")) // a connection is open now
	reader.expect("before")

	p.Set(proxy.Weather{Losing: true})
	_, err := n.rpc.Send(short(t), sendRequest(keyed("orders", "stored", "k")))
	p.Set(proxy.Weather{})
	if status.Code(err) != codes.Unknown || reason(err) != "OUTCOME_UNKNOWN" {
		t.Errorf("a Send whose commit was not answered: %v, want UNKNOWN, OUTCOME_UNKNOWN", err)
	}
	id := reader.expect("stored")[0]
	if r := n.send(t, keyed("orders", "void", "k"))[0]; !r.GetDuplicate() || r.GetId() != id {
		t.Errorf("again with its key: %v, want a duplicate of %d", r, id)
	}
	n.send(t, message("orders", "after"))
	reader.expect("after")
}
