package tests

import (
	"io"
	"net"
	neturl "net/url"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A proxy stands between a node and its database and can lose what the database answers.
type proxy struct {
	losing atomic.Bool
	ends   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	server string
	conns  []net.Conn
}

// lead makes what connects from now on reach the server at url.
func (p *proxy) lead(t *testing.T, url string) {
	t.Helper()
	parsed, err := neturl.Parse(url)
	must(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = parsed.Host
}

// cut ends every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
}

// startProxy returns a proxy to the database at url, and the URL that leads through it.
func startProxy(t *testing.T, url string) (*proxy, string) {
	t.Helper()
	parsed, err := neturl.Parse(url)
	must(t, err)
	p := &proxy{server: parsed.Host}
	l := listen(t)
	p.ends.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.pass(client)
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.ends.Wait()
	})
	parsed.Host = l.Addr().String()
	return p, parsed.String()
}

// pass copies both ways until either side ends.
func (p *proxy) pass(client net.Conn) {
	p.mu.Lock()
	address := p.server
	p.mu.Unlock()
	server, err := net.Dial("tcp", address)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	p.ends.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client) // an end like any other
	})
	p.ends.Go(func() {
		defer client.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := server.Read(buffer)
			if err != nil || p.losing.Load() {
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
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

	p.losing.Store(true)
	_, err := n.rpc.Send(short(t), sendRequest(keyed("orders", "stored", "k")))
	p.losing.Store(false)
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
