package service_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/groupcommit"
	"github.com/postbus/postbus/internal/postgres"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// longest bounds every wait of these tests. It is no assertion about speed.
const longest = 30 * time.Second

// nodeOptions are what a test changes of a node; zero values are the defaults.
type nodeOptions struct {
	WindowBytes    int
	PageReaders    int
	MaxReaders     int
	MaxConnections int
	MaxRequests    int
	CORSOrigins    []string
	AllowedHosts   []string

	ReceiveTimeout  time.Duration
	MaxRequestBytes int
}

// A node is a running service with both its ways in, on a PostgreSQL.
type node struct {
	db         *postgres.DB
	dispatcher *dispatch.Dispatcher
	service    *service.Service
	http       *httptest.Server
	web        *http.Client // of do, lines and events
	grpcAddr   string
	client     postbusv1.BusServiceClient
}

// start runs a node on the database at url until the test ends. Its fallback read comes
// after an hour, so that a lost wake-up shows.
func start(t *testing.T, url string, o nodeOptions) *node {
	t.Helper()
	n := &node{db: openDB(t, url)}
	n.dispatcher = dispatch.New(dispatch.Options{
		Store: n.db, Fallback: time.Hour, WindowBytes: o.WindowBytes, PageReaders: o.PageReaders,
	})
	writer := groupcommit.New(groupcommit.Options{Store: n.db, Stored: n.dispatcher.Offer})
	var err error
	n.service, err = service.New(service.Options{
		Dispatcher: n.dispatcher, Writer: writer, Recent: n.db, Logger: slog.New(slog.DiscardHandler),
		MaxReaders: o.MaxReaders, MaxConnections: o.MaxConnections, MaxRequests: o.MaxRequests,
		CORSOrigins: o.CORSOrigins, AllowedHosts: o.AllowedHosts,
		ReceiveTimeout: o.ReceiveTimeout, MaxRequestBytes: o.MaxRequestBytes,
	})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	n.grpcAddr = listener.Addr().String()

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(part func() error) {
		running.Go(func() {
			if err := part(); err != nil {
				t.Error(err)
			}
		})
	}
	server := n.service.GRPCServer()
	run(func() error { return n.dispatcher.Run(ctx) })
	run(func() error { return writer.Run(ctx) })
	run(func() error { return server.Serve(listener) })
	n.http = httptest.NewUnstartedServer(nil)
	n.http.Listener, n.http.Config = n.service.HTTPListener(n.http.Listener), n.service.HTTPServer()
	n.http.Start()
	n.web = n.http.Client()
	t.Cleanup(func() {
		n.service.Drain()
		n.dispatcher.Drain()
		server.Stop()
		ended, stop := context.WithTimeout(context.Background(), longest)
		defer stop()
		if err := n.service.WaitSockets(ended); err != nil {
			t.Error(err)
		}
		n.http.CloseClientConnections()
		n.http.Close()
		cancel()
		running.Wait()
	})
	n.client = n.dial(t)
	select {
	case <-n.dispatcher.Ready():
	case <-time.After(longest):
		t.Fatalf("not ready after %v: %+v", longest, n.dispatcher.State())
	}
	return n
}

// openDB opens the database at url, with its schema, until the test ends.
func openDB(t *testing.T, url string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(short(t), postgres.Options{URL: url})
	must(t, err)
	t.Cleanup(db.Close)
	return db
}

// dial opens a gRPC connection of its own.
func (n *node) dial(t *testing.T, opts ...grpc.DialOption) postbusv1.BusServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(n.grpcAddr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return postbusv1.NewBusServiceClient(conn)
}

// send sends one message and returns its id.
func (n *node) send(t *testing.T, m *postbusv1.Message) int64 {
	t.Helper()
	resp, err := n.client.Send(short(t), &postbusv1.SendRequest{Messages: []*postbusv1.Message{m}})
	must(t, err)
	return resp.Results[0].Id
}

func jsonMessage(channel, text string) *postbusv1.Message {
	return &postbusv1.Message{Channel: channel, Body: &postbusv1.Message_Json{Json: text}}
}

// do makes a request of the JSON side; header is name and value by turns.
func (n *node) do(t *testing.T, method, path, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(short(t), method, n.http.URL+path, strings.NewReader(body))
	must(t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.web.Do(req)
	must(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, answer
}

// A lineStream reads /v1/subscribe line by line.
type lineStream struct {
	resp *http.Response
	r    *bufio.Reader
}

// lines opens a line stream; client nil is the node's own.
func (n *node) lines(t *testing.T, client *http.Client, query string) lineStream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.http.URL+"/v1/subscribe?"+query, nil)
	must(t, err)
	resp, err := cmp.Or(client, n.web).Do(req)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return lineStream{resp, bufio.NewReader(resp.Body)}
}

// next returns the next line.
func (l lineStream) next(t *testing.T) string {
	t.Helper()
	line, err := l.read()
	must(t, err)
	return line
}

// read returns the next line. It ends the stream if none comes.
func (l lineStream) read() (string, error) {
	end := time.AfterFunc(longest, func() { l.resp.Body.Close() })
	defer end.Stop()
	line, err := l.r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%w after %.200q", err, line)
	}
	return strings.TrimSuffix(line, "\n"), nil
}

// connect opens an SQL session until the test ends.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(short(t), url)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := conn.Exec(short(t), statement)
		must(t, err)
	}
}

func value[T any](t *testing.T, conn *pgx.Conn, query string) (v T) {
	t.Helper()
	must(t, conn.QueryRow(short(t), query).Scan(&v))
	return v
}

// until waits for a condition that has no channel to wait on.
func until(t *testing.T, what string, reached func() bool) {
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

// short is a context that ends after longest.
func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantFault fails the test unless err is a status of ours with that reason.
func wantFault(t *testing.T, err error, code codes.Code, reason string, retry bool) {
	t.Helper()
	s := status.Convert(err)
	got, retries := "", false
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain == "postbus" {
				got = d.Reason
			}
		case *errdetails.RetryInfo:
			retries = d.RetryDelay.AsDuration() > 0
		}
	}
	if s.Code() != code || got != reason || retries != retry {
		t.Errorf("got %v %s, retry %v; want %v %s, retry %v", err, got, retries, code, reason, retry)
	}
}
