//go:build unix

package bare

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"

	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A fanout is what grpc-go can do at best: it sends prepared bytes, the same for all,
// to every stream that is open. It knows two ways, strict and plain.
type fanout struct {
	postbusv1.UnimplementedBusServiceServer

	loops *loops[preparedFrame]

	mu sync.Mutex // guards what follows
	// homes are the loops of the connections, by their addresses. All streams of a
	// connection are in the same one, so that they fill one write together.
	homes   map[string]*loop[preparedFrame]
	streams map[*openStream]struct{}
}

// An openStream is one open stream.
type openStream struct {
	grpc.ServerStream
	frames chan preparedFrame // of the plain way: its own goroutine sends
}

// A preparedFrame is an encoded SubscribeResponse, boxed once for all streams.
type preparedFrame = any

// preparedBytes are what is in a preparedFrame.
type preparedBytes mem.BufferSlice

// preparedCodec is the proto codec, but that prepared bytes pass as they are.
type preparedCodec struct{ encoding.CodecV2 }

// Marshal returns the wire form of v.
func (c preparedCodec) Marshal(v any) (mem.BufferSlice, error) {
	if p, ok := v.(preparedBytes); ok {
		return mem.BufferSlice(p), nil
	}
	return c.CodecV2.Marshal(v)
}

// Subscribe opens a stream, and sends on it what comes in the plain way.
func (b *fanout) Subscribe(_ *postbusv1.SubscribeRequest, stream postbusv1.BusService_SubscribeServer) error {
	s := &openStream{ServerStream: stream, frames: make(chan preparedFrame, 1)}
	b.enter(s)
	if err := stream.Send(&postbusv1.SubscribeResponse{}); err != nil { // the sink waits for it: nothing is sent yet
		return err
	}
	for {
		select {
		case f := <-s.frames:
			if err := s.SendMsg(f); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

// enter makes s known, in its connection's loop.
func (b *fanout) enter(s *openStream) {
	from, _ := peer.FromContext(s.Context())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams[s] = struct{}{}
	loop := b.homes[from.Addr.String()]
	if loop == nil {
		loop = b.loops.nth(len(b.homes))
		b.homes[from.Addr.String()] = loop
	}
	loop.enter(s.SendMsg)
}

// send gives f to all streams.
func (b *fanout) send(way string, f preparedFrame) error {
	switch way {
	case Strict:
		b.loops.send(f)
	case Plain:
		b.mu.Lock()
		defer b.mu.Unlock()
		for s := range b.streams {
			select {
			case s.frames <- f:
			case <-s.Context().Done():
			}
		}
	default:
		return fmt.Errorf("%q: no such way to send", way)
	}
	return nil
}

// newFanout returns one whose loops run until they are ended.
func newFanout() *fanout {
	return &fanout{
		loops:   startLoops[preparedFrame](),
		homes:   map[string]*loop[preparedFrame]{},
		streams: map[*openStream]struct{}{},
	}
}

// server returns a gRPC server of b with the options of service.GRPCServer.
func (b *fanout) server() *grpc.Server {
	server := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 30 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 9 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.ForceServerCodecV2(preparedCodec{encoding.GetCodecV2(protocodec.Name)}),
	)
	postbusv1.RegisterBusServiceServer(server, b)
	return server
}

// playStreams serves a fanout. Each line that it reads, the way and a number, makes it
// send so many messages to all streams.
func playStreams(_ context.Context, _ []string, in io.Reader, out io.Writer) error {
	b := newFanout()
	defer b.loops.end()
	p, err := newPress()
	if err != nil {
		return err
	}
	return rig.ServeGRPC(b.server(), in, out, func(line string) error {
		way, count, err := parseOrder(line)
		if err != nil {
			return err
		}
		return b.send(way, p.frame(count))
	})
}
