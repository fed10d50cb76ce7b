package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A reader by HTTP that stalls blocks its own request and nothing else: not the senders, not
// another reader, of its own connection neither, not the one who reads from the table, whose
// turn it does not keep. It is not cut off, and catches up; one that leaves is let go.
// TestStalledReaderDelaysNobodyAndCatchesUp is the same of gRPC.
func TestStalledHTTPReadersCostOnlyThemselves(t *testing.T) {
	t.Parallel()
	lines := func(n *node, t *testing.T) idReader {
		l := n.lines(t, nil, "channels=c&heartbeat=50s")
		l.next(t)
		return l
	}
	events := func(n *node, t *testing.T) idReader {
		e := n.events(t, "channels=c&heartbeat=50s")
		e.next(t)
		return e
	}
	t.Run("lines", func(t *testing.T) { t.Parallel(); stalledReadersCostOnlyThemselves(t, stingyClient, lines) })
	t.Run("events", func(t *testing.T) { t.Parallel(); stalledReadersCostOnlyThemselves(t, stingyClient, events) })
	t.Run("lines of HTTP/2", func(t *testing.T) { t.Parallel(); stalledReadersCostOnlyThemselves(t, http2Client, lines) })
	t.Run("events of HTTP/2", func(t *testing.T) { t.Parallel(); stalledReadersCostOnlyThemselves(t, http2Client, events) })
}

// An idReader is a stream of any form.
type idReader interface {
	ids(t *testing.T, count int) []int64
	leave()
}

func stalledReadersCostOnlyThemselves(t *testing.T, client func(*testing.T) *http.Client, open func(*node, *testing.T) idReader) {
	const (
		total       = 32
		size        = 512 << 10 // all together far more than a connection's buffers hold
		windowBytes = 2 << 20
	)
	n := start(t, pgtest.Database(t), nodeOptions{WindowBytes: windowBytes, PageReaders: 1})
	n.web = client(t)
	stalled, leaves, brisk := open(n, t), open(n, t), open(n, t)
	stream, err := n.client.Subscribe(short(t), &postbusv1.SubscribeRequest{Channels: []string{"c"}})
	must(t, err)
	_, err = stream.Recv()
	must(t, err)
	var ids, byHTTP, byRPC []int64
	var others sync.WaitGroup
	others.Go(func() { byHTTP = brisk.ids(t, total) })
	others.Go(func() {
		for len(byRPC) < total {
			resp, err := stream.Recv()
			if err != nil {
				t.Error(err)
				return
			}
			for _, got := range resp.Notifications {
				byRPC = append(byRPC, got.Id)
			}
		}
	})
	text := `"` + strings.Repeat("x", size) + `"`
	for range total {
		ids = append(ids, n.send(t, jsonMessage("c", text)))
	}
	others.Wait() // everything, while two stall
	want := fmt.Sprint(ids)
	if fmt.Sprint(byHTTP) != want || fmt.Sprint(byRPC) != want {
		t.Fatalf("beside a stalled reader\n HTTP %v\n  gRPC %v\n  want %s", byHTTP, byRPC, want)
	}
	var byPoll []int64
	for after := int64(0); len(byPoll) < total; {
		resp, err := n.client.Poll(short(t), &postbusv1.PollRequest{Channels: []string{"c"}, After: &after, Timeout: durationpb.New(0)})
		must(t, err)
		for _, got := range resp.Notifications {
			byPoll = append(byPoll, got.Id)
		}
		after = resp.Last
	}
	if fmt.Sprint(byPoll) != want {
		t.Fatalf("from the table, beside a stalled reader: %v, want %s", byPoll, want)
	}
	if stats := n.service.Stats(); stats.OpenStreams != 4 || n.dispatcher.State().Delivered >= 5*total-2 {
		t.Fatalf("nobody stalls, or somebody was cut off: %+v", stats)
	}
	if s := n.dispatcher.State(); s.WindowBytes > 2*windowBytes {
		t.Errorf("the window has %d bytes, its bound is %d", s.WindowBytes, windowBytes)
	}

	leaves.leave()
	until(t, "who left is let go", func() bool { return n.service.Stats().OpenStreams == 3 })
	pages := n.dispatcher.State().Pages
	if got := fmt.Sprint(stalled.ids(t, total)); got != want {
		t.Fatalf("who stalled: %v, want %s", got, want)
	}
	if n.dispatcher.State().Pages == pages {
		t.Error("who stalled read nothing from the table: it was not behind the window")
	}
	if id, got := n.send(t, jsonMessage("c", `"live again"`)), stalled.ids(t, 1); len(got) != 1 || got[0] != id {
		t.Errorf("live again: %v, want %d", got, id)
	}
}

// stingyClient returns a client whose connections take in little that is not
// read.
func stingyClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return nil, errors.Join(fmt.Errorf("a %T", conn), conn.Close())
		}
		if err := tcp.SetReadBuffer(256 << 10); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// http2Client returns a client that begins with HTTP/2.
func http2Client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (l lineStream) leave()   { l.resp.Body.Close() }
func (e *eventStream) leave() { e.resp.Body.Close() }

// ids reads count notifications and returns their ids, fewer after an error.
func (e *eventStream) ids(t *testing.T, count int) (ids []int64) {
	t.Helper()
	for len(ids) < count {
		got, ok := e.read(t)
		if !ok {
			t.Errorf("after %d of %d notifications: the end, %v", len(ids), count, e.r.Err())
			return ids
		}
		if got.kind != "" {
			continue
		}
		id, err := strconv.ParseInt(got.id, 10, 64)
		if err != nil {
			t.Error(err)
			return ids
		}
		ids = append(ids, id)
	}
	return ids
}

// ids reads count notifications and returns their ids, fewer after an error.
func (l lineStream) ids(t *testing.T, count int) (ids []int64) {
	t.Helper()
	for len(ids) < count {
		line, err := l.read()
		if err != nil {
			t.Errorf("after %d of %d notifications: %v", len(ids), count, err)
			return ids
		}
		var got struct{ Notifications []struct{ ID int64 } }
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Error(err)
			return ids
		}
		for _, notification := range got.Notifications {
			ids = append(ids, notification.ID)
		}
	}
	return ids
}

// A stream whose time is over ends, though its reader takes nothing: not even the end.
func TestStalledStreamEndsWithItsDeadline(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	for name, web := range map[string]*http.Client{"HTTP/1.1": stingyClient(t), "HTTP/2": http2Client(t)} {
		n.web = web
		source := n.events(t, "channels=c&heartbeat=50s", "Grpc-Timeout", "2S")
		source.next(t)
		text := `"` + strings.Repeat("x", 512<<10) + `"`
		for range 32 {
			n.send(t, jsonMessage("c", text))
		}
		until(t, name+": it has ended", func() bool { return n.service.Stats().OpenStreams == 0 })
	}
}
