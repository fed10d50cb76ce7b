//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A bareFanout is what grpc-go can do at best: it sends prepared bytes, the same for all,
// to every stream that is open. It knows two ways, strict and plain.
type bareFanout struct {
	postbusv1.UnimplementedBusServiceServer

	mu      sync.Mutex // guards what follows
	loops   []*bareLoop
	homes   map[string]*bareLoop // by the connection's address
	streams map[*bareStream]struct{}
}

// A bareLoop sends to a share of the streams, in turn. All streams of a connection are in
// the same one, so that they fill one write together.
type bareLoop struct {
	frames  chan preparedFrame
	mu      sync.Mutex // guards streams
	streams []*bareStream
}

// A bareStream is one open stream.
type bareStream struct {
	grpc.ServerStream
	frames chan preparedFrame // of the plain way: its own goroutine sends
}

// A preparedFrame is an encoded SubscribeResponse, boxed once for all streams.
type preparedFrame any

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
func (b *bareFanout) Subscribe(_ *postbusv1.SubscribeRequest, stream postbusv1.BusService_SubscribeServer) error {
	s := &bareStream{ServerStream: stream, frames: make(chan preparedFrame, 1)}
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
func (b *bareFanout) enter(s *bareStream) {
	from, _ := peer.FromContext(s.Context())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams[s] = struct{}{}
	loop := b.homes[from.Addr.String()]
	if loop == nil {
		loop = b.loops[len(b.homes)%len(b.loops)]
		b.homes[from.Addr.String()] = loop
	}
	loop.mu.Lock()
	loop.streams = append(loop.streams, s)
	loop.mu.Unlock()
}

// run sends each frame to all streams of the loop.
func (l *bareLoop) run() {
	for f := range l.frames {
		l.mu.Lock()
		streams := l.streams
		l.mu.Unlock()
		for _, s := range streams {
			_ = s.SendMsg(f) // a stream that has ended is missed by the sink
		}
	}
}

// send gives f to all streams.
func (b *bareFanout) send(way string, f preparedFrame) error {
	switch way {
	case "strict":
		for _, l := range b.loops {
			l.frames <- f
		}
	case "plain":
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

// A press prepares bytes: copies of one notification, each with the next id.
type press struct {
	entry []byte // a repeated field entry
	at    int    // where its id is
	id    uint64
}

// firstID is the smallest id of five bytes: all ids here have as many.
const firstID = 1 << 28

func newPress() (*press, error) {
	text, err := proto.Marshal(&postbusv1.Notification{
		Id: firstID, Channel: fanoutChannel, Body: &postbusv1.Notification_Json{Json: rig.Payload()}, SentAt: timestamppb.Now(),
	})
	if err != nil {
		return nil, err
	}
	p := &press{id: firstID}
	p.entry = protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(len(text))) // SubscribeResponse.notifications
	p.at = len(p.entry) + 1
	p.entry = append(p.entry, text...)
	return p, nil
}

// frame returns the next count notifications in one response of one piece.
func (p *press) frame(count int) preparedFrame {
	text := make([]byte, 0, count*len(p.entry)+6)
	for range count {
		p.id++
		protowire.AppendVarint(p.entry[:p.at], p.id) // in place
		text = append(text, p.entry...)
	}
	text = protowire.AppendVarint(protowire.AppendTag(text, 2, protowire.VarintType), p.id) // SubscribeResponse.last
	return preparedBytes{mem.SliceBuffer(text)}
}

// newBareFanout returns one with a loop for each core, and what ends the loops.
func newBareFanout() (b *bareFanout, end func()) {
	b = &bareFanout{homes: map[string]*bareLoop{}, streams: map[*bareStream]struct{}{}}
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		l := &bareLoop{frames: make(chan preparedFrame, 1)}
		b.loops = append(b.loops, l)
		running.Go(l.run)
	}
	return b, func() {
		for _, l := range b.loops {
			close(l.frames)
		}
		running.Wait()
	}
}

// server returns a gRPC server of b with the options of service.GRPCServer.
func (b *bareFanout) server() *grpc.Server {
	server := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 30 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 9 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.ForceServerCodecV2(preparedCodec{encoding.GetCodecV2(protocodec.Name)}),
	)
	postbusv1.RegisterBusServiceServer(server, b)
	return server
}

// bareServer serves a bareFanout. Each line that it reads, the way and a number, makes it
// send so many messages to all streams.
func bareServer(_ context.Context, _ []string, in io.Reader, out io.Writer) error {
	b, end := newBareFanout()
	defer end()
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

// parseOrder reads what a bare server is told: the way, and how many messages.
func parseOrder(line string) (way string, count int, err error) {
	if _, err = fmt.Sscan(line, &way, &count); err != nil {
		err = fmt.Errorf("%q: %w", line, err)
	}
	return way, count, err
}
