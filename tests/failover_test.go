package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/postbus/postbus/client"
	"github.com/postbus/postbus/internal/postgres/embedded"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/proxy"
)

// A pair is a primary and its asynchronous standby, and an address that leads to whichever
// is the primary.
type pair struct {
	primary, standby *embedded.Server
	network          *proxy.Proxy
	url              string
}

func startPair(t *testing.T, standbySettings map[string]string) *pair {
	t.Helper()
	p := &pair{primary: pgtest.Exclusive(t, nil)}
	p.standby = pgtest.Backup(t, p.primary, embedded.Standby, standbySettings)
	p.network, p.url = startProxy(t, p.primary.URL())
	return p
}

// follow waits until the standby has what the primary has, the floor of id among it.
func (p *pair) follow(t *testing.T, id int64) {
	t.Helper()
	conn := sql(t, p.standby.URL())
	until(t, "the standby has the schema", func() bool { return ask[bool](t, conn, "SELECT to_regclass('postbus.state') IS NOT NULL") })
	until(t, "the standby has the floor", func() bool { return ask[int64](t, conn, "SELECT coalesce(max(floor), 0) FROM postbus.state") >= id })
}

// deafen ends replication: what the primary commits from now on is not on the standby.
func (p *pair) deafen(t *testing.T) {
	t.Helper()
	conn := sql(t, p.standby.URL())
	do(t, conn, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	until(t, "replication has ended", func() bool { return ask[int64](t, conn, "SELECT count(*) FROM pg_stat_wal_receiver") == 0 })
}

// promote makes the standby the primary, and the address lead there.
func (p *pair) promote(t *testing.T) {
	t.Helper()
	do(t, sql(t, p.standby.URL()), "SELECT pg_promote()")
	must(t, p.network.Lead(p.standby.URL()))
}

// node lets a process be asked as a node in this one is.
func (s *served) node() *node {
	return &node{grpcAddr: s.grpcAddr, base: s.httpURL, conn: s.conn, rpc: s.bus, web: s.http}
}

// store sends texts one by one, each at the next of nodes, with keys and until it is
// answered: an outage is no error.
func store(t *testing.T, channel string, texts []string, nodes ...*node) (all []stored) {
	t.Helper()
	for i, text := range texts {
		request := sendRequest(keyed(channel, text, client.NewKey()))
		until(t, fmt.Sprintf("%q is stored", text), func() bool {
			response, err := nodes[i%len(nodes)].rpc.Send(short(t), request)
			if err == nil {
				all = append(all, stored{response.GetResults()[0].GetId(), text})
			}
			return err == nil
		})
	}
	return all
}

// G4: an asynchronous standby without the newest messages is promoted when the primary
// dies. Everyone who stands below what is fresh is told, by every transport, at the node
// that lived through it and at one that did not.
func TestFailoverTellsWhatItLost(t *testing.T) {
	t.Parallel()
	p := startPair(t, nil)
	a, b := serve(t, p.url), serve(t, p.url)
	readers := []*stream{a.node().subscribe(t, -1, "orders"), a.node().subscribe(t, 0, "orders")}
	quiet := a.node().subscribe(t, -1, "quiet")

	was := &past{channel: "orders"}
	was.survived = store(t, "orders", numbered("kept", 6), a.node(), b.node())
	p.follow(t, was.survived[5].id)
	p.deafen(t)
	was.lost = store(t, "orders", numbered("lost", 5), a.node(), b.node())
	for _, r := range readers {
		r.expect(append(numbered("kept", 6), numbered("lost", 5)...)...)
	}

	b.signal(t, syscall.SIGKILL)
	must(t, p.primary.StopImmediate(short(t)))
	b.code(t)
	p.promote(t)
	b = serve(t, p.url)
	was.fresh = store(t, "orders", numbered("fresh", 4), b.node(), a.node())
	if first := was.fresh[0].id; first>>32 != 1 || first&(1<<32-1) > 100 {
		t.Errorf("the first fresh id is %d, want about 2^32", first)
	}
	for _, r := range readers {
		r.expectLoss(was)
	}
	quiet.awaitGap()
	conn := sql(t, p.url)
	do(t, conn, `SELECT postbus.send('orders', '"by SQL"')`)
	readers[0].expect("by SQL")
	was.fresh = append(was.fresh, stored{ask[int64](t, conn, "SELECT max(id) FROM postbus.bus"), "by SQL"})
	for _, n := range []*node{a.node(), b.node()} {
		was.check(t, n, conn)
	}
	a.stop(t)
	b.stop(t)
}

// G1, G2, G4: a planned switchover, under load: the primary is stopped, the standby
// promoted, the old primary becomes its standby. Every message that was answered arrives,
// once and in the same order at both nodes.
func TestSwitchoverLosesNothing(t *testing.T) {
	t.Parallel()
	p := startPair(t, nil)
	a, b := serve(t, p.url), serve(t, p.url)
	p.follow(t, 0)
	nodes := []*node{a.node(), b.node()}
	readers := []*stream{nodes[0].subscribe(t, 0, "load"), nodes[1].subscribe(t, -1, "load")}
	texts := make([][]string, len(readers))
	var reading, sending sync.WaitGroup
	for i, r := range readers {
		reading.Go(func() { texts[i] = r.untilEnd() })
	}

	answered, order := map[string]bool{}, make([][]string, len(nodes))
	var mu sync.Mutex
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(answered) }
	ctx, stop := context.WithCancel(t.Context())
	for i, n := range nodes {
		c, err := client.Dial(client.Options{Target: n.grpcAddr, SendTries: 100})
		must(t, err)
		defer c.Close()
		sending.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				text := fmt.Sprint(i, "-", k)
				if _, err := c.Send(short(t), client.Message{Channel: "load", Payload: fmt.Appendf(nil, "%q", text), Key: client.NewKey()}); err != nil {
					t.Errorf("%s: %v", text, err)
					return
				}
				mu.Lock()
				answered[text] = true
				order[i] = append(order[i], text)
				mu.Unlock()
			}
		})
	}
	until(t, "the load runs", func() bool { return count() > 100 })

	do(t, sql(t, p.primary.URL()), fmt.Sprintf("ALTER SYSTEM SET primary_conninfo = '%s'", p.standby.URL()))
	must(t, p.primary.StopFast(short(t))) // its last WAL goes to the standby
	p.promote(t)
	must(t, os.WriteFile(filepath.Join(p.primary.DataDir(), "cluster", "standby.signal"), nil, 0o600))
	resumed := count()
	until(t, "the load runs again", func() bool { return count() > resumed+100 })
	stop()
	sending.Wait()
	end := store(t, "load", []string{"end"}, nodes...)[0]
	reading.Wait()
	equal(t, "the second reader", texts[1], texts[0])
	checkDelivered(t, texts[0], answered, nil)
	for _, one := range order {
		inOrder(t, texts[0], one)
	}
	if end.id>>32 != 1 {
		t.Errorf("the last id is %d, want one of the second history", end.id)
	}
	for i, r := range readers {
		if len(r.gaps) != 1 || r.gaps[0].GetUntil() != 1<<32-1 {
			t.Errorf("reader %d was told %v, want the history's end", i, r.gaps)
		}
	}
	must(t, p.primary.Restart(short(t)))
	conn := sql(t, p.primary.URL())
	until(t, "the old primary follows", func() bool { return pollSQL(t, conn, 1<<32-1, "load", 1000).Last >= end.id })
	a.stop(t)
	b.stop(t)
}

// G4: the old primary is still alive when the address leads to the promoted standby, and
// the pool's connections to it never broke. What is read and written after the node has
// noticed is the new primary's.
func TestPoolLeavesAnOldPrimaryThatLives(t *testing.T) {
	t.Parallel()
	p := startPair(t, nil)
	n := startNode(t, p.url, nodeOptions{WindowBytes: 1})
	was := &past{channel: "orders", survived: store(t, "orders", numbered("kept", 6), n)}
	p.follow(t, was.survived[5].id)
	p.deafen(t)
	was.lost = store(t, "orders", numbered("lost", 2), n)
	n.poll(t, was.survived[0].id, "orders") // from the table: the pool has a connection
	n.asleep(t)
	old := sql(t, p.primary.URL())
	p.promote(t)
	do(t, old, fmt.Sprintf("SELECT pg_terminate_backend(%d)", sleepers(t, old)[0])) // the tail's alone
	until(t, "the node follows the new primary", func() bool { return n.dispatcher.State().Connected && n.dispatcher.State().Pos >= 1<<32-1 })
	was.fresh = store(t, "orders", numbered("fresh", 3), n)
	was.check(t, n, sql(t, p.url))
	if strays := ask[int64](t, old, "SELECT count(*) FROM postbus.bus WHERE json ~ 'fresh'"); strays != 0 {
		t.Errorf("the old primary was given %d messages", strays)
	}
}
