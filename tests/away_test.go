package tests

import (
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/proxy"
)

// G4: what retention takes while a node is cut off is told to its open streams when it is
// back, as to any reader that comes late.
func TestRetentionWhileTheNodeIsCutOffIsTold(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	network, through := startProxy(t, url)
	cut := startNode(t, through, nodeOptions{Fallback: time.Second})
	other := startNode(t, url, nodeOptions{Fallback: time.Second, Retention: time.Second})
	reader := cut.subscribe(t, -1, "orders")
	other.send(t, message("orders", "seen"))
	reader.expect("seen")

	network.Set(proxy.Weather{Losing: true})
	until(t, "the node has noticed", func() bool { return !cut.dispatcher.State().Connected })
	lost := other.send(t, message("orders", "lost"))[0].GetId()
	conn := sql(t, url)
	until(t, "retention has taken it", func() bool {
		return ask[int64](t, conn, "SELECT trimmed_to FROM postbus.state") >= lost
	})
	network.Set(proxy.Weather{})
	until(t, "the node is back", func() bool { return cut.dispatcher.State().Connected })
	other.send(t, message("orders", "fresh"))
	reader.expect("fresh")
	if len(reader.gaps) != 1 || reader.gaps[0].GetUntil() < lost {
		t.Errorf("gaps %v, want one up to %d", reader.gaps, lost)
	}
}
