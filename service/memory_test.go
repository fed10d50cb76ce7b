package service_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/groupcommit"
	"github.com/postbus/postbus/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is the log of these tests: what PostgreSQL is to a node, without commits that
// overtake each other.
type memory struct {
	mu      sync.Mutex
	rows    []*bus.Notification
	keys    map[[2]string]bus.ID
	trimmed bus.ID
	away    bool

	pages  int // read so far
	broken int // the reads of pages 2 to broken fail
}

var errAway = errors.New("away")

func (m *memory) Append(_ context.Context, sends [][]bus.Message) ([]groupcommit.Result, []*bus.Notification, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, nil, bus.ErrUnavailable
	}
	results := make([]groupcommit.Result, len(sends))
	var stored []*bus.Notification
	for i, messages := range sends {
		for _, msg := range messages {
			key := [2]string{msg.Channel, msg.Key}
			if first, ok := m.keys[key]; ok && msg.Key != "" {
				results[i].Receipts = append(results[i].Receipts, bus.Receipt{ID: first, Duplicate: true})
				continue
			}
			n := &bus.Notification{ID: m.lastLocked() + 1, Channel: msg.Channel, Type: msg.Type, JSON: msg.JSON,
				Binary: msg.Binary, Headers: msg.Headers, SentAt: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)}
			m.keys[key] = n.ID
			m.rows = append(m.rows, n)
			stored = append(stored, n)
			results[i].Receipts = append(results[i].Receipts, bus.Receipt{ID: n.ID})
		}
	}
	return results, stored, nil
}

func (m *memory) lastLocked() bus.ID {
	if len(m.rows) == 0 {
		return 0
	}
	return m.rows[len(m.rows)-1].ID
}

func (m *memory) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

func (m *memory) OpenTail(context.Context, bus.ID) (dispatch.Tail, dispatch.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, dispatch.Position{}, errAway
	}
	return memoryTail{m}, dispatch.Position{Floor: m.lastLocked(), Head: m.lastLocked()}, nil
}

func (m *memory) ReadPage(_ context.Context, req dispatch.PageRequest) (dispatch.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pages++; m.away || m.pages > 1 && m.pages <= m.broken {
		return dispatch.Page{}, errAway
	}
	page := dispatch.Page{Scanned: req.Until, TrimmedTo: m.trimmed}
	size := 0
	for _, n := range m.rows {
		if n.ID <= max(req.After, m.trimmed) || n.ID > req.Until || !slices.Contains(req.Channels, n.Channel) {
			continue
		}
		page.Notifications = append(page.Notifications, n)
		if size += n.Size(); len(page.Notifications) == req.Max || size >= req.MaxBytes {
			page.Scanned = n.ID
			break
		}
	}
	return page, nil
}

func (m *memory) LastGiven(context.Context) (bus.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return 0, errAway
	}
	return m.lastLocked(), nil
}

type memoryTail struct{ *memory }

func (t memoryTail) Read(_ context.Context, after bus.ID) ([]*bus.Notification, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away {
		return nil, false, errAway
	}
	for i, n := range t.rows {
		if n.ID > after {
			return slices.Clone(t.rows[i:]), false, nil
		}
	}
	return nil, false, nil
}

func (memoryTail) Holders(context.Context) ([]dispatch.Holder, error)     { return nil, nil }
func (memoryTail) CanSleep() bool                                         { return false }
func (memoryTail) Arm(context.Context) error                              { return nil }
func (memoryTail) Disarm(context.Context) error                           { return nil }
func (memoryTail) Wait(context.Context, time.Duration) (bool, error)      { return false, nil }
func (memoryTail) Check(context.Context) error                            { return nil }
func (memoryTail) SaveFloor(context.Context, bus.ID) error                { return nil }
func (memoryTail) Close()                                                 {}
func (m *memory) IDBefore(context.Context, time.Duration) (bus.ID, error) { return 0, nil }

// A node is a running service with both its ways in.
type node struct {
	log        *memory
	dispatcher *dispatch.Dispatcher
	service    *service.Service
	http       *httptest.Server
	client     postbusv1.BusServiceClient
	conn       *grpc.ClientConn
}

// start runs a node until the test ends.
func start(t *testing.T, change func(*service.Options)) *node {
	t.Helper()
	return startOn(t, newMemory(), change)
}

func newMemory() *memory { return &memory{keys: make(map[[2]string]bus.ID)} }

// startOn is start on a log that holds something already.
func startOn(t *testing.T, log *memory, change func(*service.Options)) *node {
	t.Helper()
	n := &node{log: log}
	n.dispatcher = dispatch.New(dispatch.Options{Store: n.log})
	writer := groupcommit.New(groupcommit.Options{Store: n.log, Stored: n.dispatcher.Offer})
	o := service.Options{Dispatcher: n.dispatcher, Writer: writer, Recent: n.log, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	var err error
	if n.service, err = service.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.dispatcher.Run(ctx) })
	running.Go(func() { _ = writer.Run(ctx) })

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := n.service.GRPCServer()
	running.Go(func() { _ = server.Serve(listener) })
	n.http = httptest.NewServer(n.service.HTTPHandler())
	n.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	n.client = postbusv1.NewBusServiceClient(n.conn)
	t.Cleanup(func() {
		n.dispatcher.Drain()
		_ = n.conn.Close()
		server.Stop()
		n.http.CloseClientConnections()
		n.http.Close()
		cancel()
		running.Wait()
	})
	select {
	case <-n.dispatcher.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("not ready")
	}
	return n
}

// send sends one message and returns its id.
func (n *node) send(t *testing.T, m *postbusv1.Message) int64 {
	t.Helper()
	resp, err := n.client.Send(t.Context(), &postbusv1.SendRequest{Messages: []*postbusv1.Message{m}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Results[0].Id
}

func jsonMessage(channel, text string) *postbusv1.Message {
	return &postbusv1.Message{Channel: channel, Body: &postbusv1.Message_Json{Json: text}}
}
