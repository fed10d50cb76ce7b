package tests

import (
	"context"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// G8: a reader that stalls delays nobody, costs the window's bytes and no more, is not cut
// off, and catches up from the table when it reads again.
func TestStalledReaderDelaysNobodyAndCatchesUp(t *testing.T) {
	t.Parallel()
	const (
		windowBytes = 256 << 10
		readers     = 100
		sends       = 150
		each        = 10 // messages of a send
	)
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{WindowBytes: windowBytes})
	stalled := stall(t, n, "load")
	padding := strings.Repeat("x", 2000)

	var others sync.WaitGroup
	for range readers {
		reader := n.subscribe(t, -1, "load")
		others.Go(func() {
			for range sends * each {
				reader.next()
			}
		})
	}
	var want []string
	for i := range sends {
		var messages []*postbusv1.Message
		for _, text := range numbered(padding, each) {
			want = append(want, text)
			messages = append(messages, message("load", text))
		}
		n.send(t, messages...)
		if s := n.dispatcher.State(); s.WindowBytes > 2*windowBytes {
			t.Fatalf("after %d sends the window has %d bytes, its bound is %d", i+1, s.WindowBytes, windowBytes)
		}
	}
	others.Wait() // everything, while the first one stalls
	if t.Failed() {
		return
	}
	pages := n.dispatcher.State().Pages
	stalled.expect(want...)
	if n.dispatcher.State().Pages == pages {
		t.Error("the stalled reader read nothing from the table: it was not behind the window")
	}
	n.send(t, message("load", "live again"))
	stalled.expect("live again")
}

// stall opens a stream on a connection of its own with the smallest buffers there are, and
// reads nothing beyond the first response until it is asked to.
func stall(t *testing.T, n *node, channels ...string) *stream {
	t.Helper()
	conn, err := grpc.NewClient(n.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10), grpc.WithReadBufferSize(4<<10))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	opened, err := postbusv1.NewBusServiceClient(conn).Subscribe(ctx, &postbusv1.SubscribeRequest{Channels: channels})
	must(t, err)
	s := &stream{t: t, recv: opened.Recv, cancel: cancel}
	s.receive()
	return s
}
