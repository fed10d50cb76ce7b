//go:build unix

package bare

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// serveStreams serves a fanout for the test and returns its address.
func serveStreams(t *testing.T) (*fanout, *press, string) {
	t.Helper()
	b := newFanout()
	p, err := newPress()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := b.server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		b.loops.end()
	})
	return b, p, listener.Addr().String()
}

// startTestSink opens a sink for the test; all of what until waits for shows in reached.
func startTestSink(t *testing.T, plan sink.Plan) (s *sink.Sink, reached chan struct{}) {
	t.Helper()
	reached = make(chan struct{}, 1)
	s, err := sink.Open(t.Context(), plan, nil, func() { reached <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, reached
}

func await(t *testing.T, s *sink.Sink, reached <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case <-reached:
	case err := <-s.Failed():
		t.Fatal(err)
	case <-ctx.Done():
		t.Fatalf("%d notifications, and no more", s.Total())
	}
}

func TestEveryReaderGetsEveryPreparedMessage(t *testing.T) {
	b, p, addr := serveStreams(t)
	for _, conns := range []int{1, 7, 60} {
		const readers = 60
		s, reached := startTestSink(t, sink.Plan{Target: addr, Conns: conns, Readers: readers, Channel: "a"})
		sent := int64(0)
		for _, way := range []string{Strict, Plain} {
			for _, count := range []int{1, 32} {
				sent += int64(count)
				s.Until(sent * readers)
				if err := b.send(way, p.frame(count)); err != nil {
					t.Fatal(err)
				}
				await(t, s, reached)
			}
		}
		if err := s.Check(sent); err != nil {
			t.Errorf("%d connections: %v", conns, err)
		}
		if err := s.Check(sent + 1); err == nil {
			t.Errorf("%d connections: every reader has got what nobody sent", conns)
		}
		if got := s.Responses(); got != 4*readers {
			t.Errorf("%d connections: %d responses, want %d", conns, got, 4*readers)
		}
	}
}

func TestStalledSinkTakesItsWindowAndGoesOnLater(t *testing.T) {
	b, p, addr := serveStreams(t)
	plan := sink.Plan{Target: addr, Conns: 1, Readers: 1, Channel: "a", Window: sink.FirstWindow}
	slow, caught := startTestSink(t, plan)
	brisk, reached := startTestSink(t, plan)
	if err := slow.Stall(true); err != nil {
		t.Fatal(err)
	}
	const frames, size = 5, 100 // twice the window
	brisk.Until(frames * size)
	slow.Until(frames * size)
	for range frames {
		if err := b.send(Plain, p.frame(size)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, brisk, reached)
	if got := slow.Total(); got > sink.FirstWindow/int64(len(p.entry)) {
		t.Fatalf("the stalled reader has got %d messages, more than its window", got)
	}
	if err := slow.Stall(false); err != nil {
		t.Fatal(err)
	}
	await(t, slow, caught)
	if err := slow.Check(frames * size); err != nil {
		t.Error(err)
	}
}

func TestPreparedBytesAreResponses(t *testing.T) {
	p, err := newPress()
	if err != nil {
		t.Fatal(err)
	}
	next := int64(firstID)
	for _, count := range []int{1, 32, 300} {
		got := &postbusv1.SubscribeResponse{}
		if err := proto.Unmarshal(p.frame(count).(preparedBytes)[0].ReadOnlyData(), got); err != nil {
			t.Fatal(err)
		}
		if len(got.GetNotifications()) != count {
			t.Fatalf("%d notifications, want %d", len(got.GetNotifications()), count)
		}
		for _, n := range got.GetNotifications() {
			if next++; n.GetId() != next || n.GetChannel() != Channel || n.GetJson() != rig.Payload() {
				t.Fatalf("notification %v, want id %d", n, next)
			}
		}
		if got.GetLast() != next {
			t.Fatalf("last %d, want %d", got.GetLast(), next)
		}
	}
}
