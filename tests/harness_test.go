// Package tests holds the promises of docs/guarantees.md against the real parts: a real
// PostgreSQL, real nodes, real sockets.
package tests

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/postbus/postbus/client"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/groupcommit"
	"github.com/postbus/postbus/internal/postgres"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
	"github.com/postbus/postbus/service/odoo"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// longest bounds every wait of these tests. It is no assertion about speed.
const longest = 30 * time.Second

// nodeOptions are what a test changes of a node; zero values are the program's defaults,
// but for Fallback, which is an hour: a wake-up that is lost shows.
type nodeOptions struct {
	ListenURL    string // of the tail; default: the node's URL
	Fallback     time.Duration
	WindowBytes  int
	MaxReaders   int
	PollTimeout  time.Duration
	Retention    time.Duration
	KeyRetention time.Duration
	KeyPatience  time.Duration
	CORSOrigins  []string
	Odoo         odoo.Options
}

// A node is what `postbus serve` runs, in this process, on loopback ports of its own.
type node struct {
	db         *postgres.DB
	dispatcher *dispatch.Dispatcher
	writer     *groupcommit.Writer
	service    *service.Service

	url      string // of the database
	grpcAddr string
	base     string // of the HTTP side, "http://127.0.0.1:port"
	conn     *grpc.ClientConn
	rpc      postbusv1.BusServiceClient
	client   *client.Client
	web      *http.Client

	once sync.Once
	end  func()
}

// startNode starts a node on the database at url and waits until it is ready. It is
// stopped at cleanup, in the order in which the program stops.
func startNode(t testing.TB, url string, o nodeOptions) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	o.Odoo.Retention = o.Retention
	n := &node{url: url}
	var err error
	n.db, err = postgres.Open(ctx, postgres.Options{URL: url, ListenURL: o.ListenURL, Retention: o.Retention, KeyRetention: o.KeyRetention})
	must(t, err)
	n.dispatcher = dispatch.New(dispatch.Options{
		Store: n.db, Fallback: cmp.Or(o.Fallback, time.Hour), WindowBytes: o.WindowBytes,
	})
	n.writer = groupcommit.New(groupcommit.Options{Store: n.db, Stored: n.dispatcher.Offer, KeyPatience: o.KeyPatience})
	n.service, err = service.New(service.Options{
		Dispatcher: n.dispatcher, Writer: n.writer, Recent: n.db, PollTimeout: o.PollTimeout, MaxReaders: o.MaxReaders,
		CORSOrigins: o.CORSOrigins, Odoo: o.Odoo,
	})
	must(t, err)
	grpcServer := n.service.GRPCServer()
	httpServer := &http.Server{Handler: n.service.HTTPHandler(), ReadHeaderTimeout: 10 * time.Second}
	grpcListener, httpListener := listen(t), listen(t)
	n.grpcAddr, n.base = grpcListener.Addr().String(), "http://"+httpListener.Addr().String()

	var parts sync.WaitGroup
	run := func(part func(context.Context) error) (stop context.CancelFunc) {
		ctx, stop := context.WithCancel(context.Background())
		parts.Go(func() { check(t, part(ctx)) })
		return stop
	}
	stopDispatcher, stopWriter, stopRetention := run(n.dispatcher.Run), run(n.writer.Run), run(n.db.Trim)
	parts.Go(func() { check(t, grpcServer.Serve(grpcListener)) })
	parts.Go(func() { check(t, httpServer.Serve(httpListener)) })

	n.conn, err = grpc.NewClient(n.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	n.rpc = postbusv1.NewBusServiceClient(n.conn)
	n.client, err = client.Dial(client.Options{Target: n.grpcAddr, SendTries: 100})
	must(t, err)
	n.web = &http.Client{Transport: &http.Transport{}}

	n.end = func() {
		deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		n.service.Drain()
		n.dispatcher.Drain()
		n.conn.Close()
		n.client.Close()
		if httpServer.Shutdown(deadline) != nil {
			httpServer.Close()
		}
		check(t, n.service.WaitSockets(deadline))
		end := context.AfterFunc(deadline, grpcServer.Stop)
		grpcServer.GracefulStop()
		end()
		stopWriter()
		stopRetention()
		stopDispatcher()
		parts.Wait()
		n.db.Close()
		n.web.CloseIdleConnections()
	}
	t.Cleanup(n.stop)
	within(t, n.dispatcher.Ready(), "the node to be ready")
	n.service.SetHealthy(true)
	return n
}

// stop ends the node; again is nothing.
func (n *node) stop() { n.once.Do(n.end) }

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// check reports an error that is not an orderly end, from any goroutine.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
		t.Error(err)
	}
}

// within waits for done to be closed.
func within(t testing.TB, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(longest):
		t.Fatalf("waited %v for %s", longest, what)
	}
}

// until waits for a condition that has no channel to wait on.
func until(t testing.TB, what string, reached func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(longest)
	for !reached() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited %v until %s", longest, what)
		}
	}
}

// asleep waits until the node is blocked on the bell.
func (n *node) asleep(t testing.TB) {
	t.Helper()
	until(t, "the node sleeps", func() bool { return n.dispatcher.State().Sleeping })
}

// short is a context that ends after longest.
func short(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	t.Cleanup(cancel)
	return ctx
}
