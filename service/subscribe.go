package service

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

const (
	defaultHeartbeat = 20 * time.Second
	minHeartbeat     = time.Second
	// streamMax bounds the notifications of one response of a stream.
	streamMax = 1_000
	// While a stream's reads of the table fail it asks again after these pauses.
	minPause = 50 * time.Millisecond
	maxPause = time.Second
)

// What the ways of the wire make of a dispatch.Batch, once for all who are given it.
const (
	formGRPC      = iota // *grpc.PreparedMsg
	formLine             // []byte: a line of JSON
	formSSE              // []byte: server-sent events
	formWebSocket        // *websocket.PreparedMessage
	formOdoo             // what service/odoo keeps
)

// A walking is what a stream asks for, checked.
type walking struct {
	channels  []string // without repetition
	after     *bus.ID  // nil: from now on
	heartbeat time.Duration
}

// subscribe is BusService.Subscribe as gRPC calls it. Its goroutine waits for as long as
// the stream is open, and a stack that has grown shrinks no more below gRPC's own frames:
// so what goes deep (reading the request, the heartbeats) is done aside, and an idle
// stream keeps 4 KB of stack instead of 8. A notification is worth the growth.
func (s *Service) subscribe(_ any, to grpc.ServerStream) (err error) {
	ctx := to.Context()
	defer s.finish(ctx, "Subscribe", &err)
	var open *stream
	err = s.hands.aside(func() error {
		req := new(postbusv1.SubscribeRequest)
		if err := to.RecvMsg(req); err != nil {
			return err
		}
		w, err := s.walkingOf(req)
		if err != nil {
			return err
		}
		open, err = s.open(ctx, w, s.grpcWay(to))
		return err
	})
	if open == nil {
		return err
	}
	defer open.close()
	if err != nil {
		return err
	}
	return open.run(ctx)
}

// grpcWay returns the way of a gRPC stream. The streams of one connection are written
// together.
func (s *Service) grpcWay(to grpc.ServerStream) way {
	w := way{
		give: func(b dispatch.Batch) error {
			send := func() error { return to.SendMsg(newFrame(b)) }
			if b.Empty() {
				return s.hands.aside(send)
			}
			return send()
		},
		carry: func(b *dispatch.Batch) error {
			if b.Forms[formGRPC] == nil {
				// For all streams that are given b: none is compressed
				// (TestStreamsAreNotCompressed), and all have one codec.
				prepared := new(grpc.PreparedMsg)
				if err := prepared.Encode(to, newFrame(*b)); err != nil {
					return err
				}
				b.Forms[formGRPC] = prepared
			}
			return to.SendMsg(b.Forms[formGRPC])
		},
	}
	if p, ok := peer.FromContext(to.Context()); ok {
		w.peer = maphash.String(s.peers, p.Addr.String())
	}
	return w
}

// A way is how a stream's batches go out.
type way struct {
	give  func(dispatch.Batch) error  // on the stream's own goroutine
	carry func(*dispatch.Batch) error // on one that many streams share; nil: never
	peer  uint64                      // numbers the connection, if streams share one
}

// A stream is one open Subscribe, of any transport.
type stream struct {
	*Service
	sub       *dispatch.Subscription
	heartbeat time.Duration
	to        way
	carrier   dispatch.Carrier // of to
}

// open admits a stream and gives it its first batch, which comes at once, perhaps
// empty. A stream that is returned must be closed, with an error too: before
// bus.ErrDraining it was given its last.
func (s *Service) open(ctx context.Context, w walking, to way) (*stream, error) {
	if err := s.enter(&s.counts.streams); err != nil {
		return nil, err
	}
	open, err := s.openAdmitted(ctx, w, to)
	if open == nil {
		s.leave(&s.counts.streams)
	}
	return open, err
}

// openAdmitted is open for who was admitted already; it is not to be closed, but its sub is.
func (s *Service) openAdmitted(ctx context.Context, w walking, to way) (*stream, error) {
	sub, err := s.opts.Dispatcher.Subscribe(ctx, w.channels, w.after)
	if err != nil {
		return nil, err
	}
	open := &stream{Service: s, sub: sub, heartbeat: w.heartbeat, to: to}
	if to.carry != nil {
		open.carrier = dispatch.Carrier{Peer: to.peer, Carry: func(b *dispatch.Batch) error { return given(ctx, to.carry(b)) }}
	}
	batch, err := sub.Next(ctx, streamMax, 0)
	if err != nil && !errors.Is(err, bus.ErrDraining) {
		return open, err // nothing was promised yet: the caller may try elsewhere
	}
	if sent := open.give(ctx, batch); sent != nil {
		return open, sent
	}
	return open, err
}

func (st *stream) close() {
	st.sub.Close()
	st.leave(&st.counts.streams)
}

// run gives batches until ctx ends, the node drains or the transport fails; an empty one
// is the heartbeat. A database that is away ends nothing: heartbeats go on, and
// reading does when it is back. Before bus.ErrDraining comes a batch with the last.
func (st *stream) run(ctx context.Context) error {
	for {
		batch, err := st.sub.Ride(ctx, streamMax, st.heartbeat, st.carrier)
		if errors.Is(err, bus.ErrUnavailable) {
			batch, err = st.sitOut(ctx)
		}
		if err != nil && !errors.Is(err, bus.ErrDraining) {
			return err
		}
		if sent := st.give(ctx, batch); sent != nil {
			return sent
		}
		if err != nil {
			return err // draining, and the last is out
		}
		if ctx.Err() != nil { // Next asks only before it waits
			return ctx.Err()
		}
	}
}

// give gives one batch and counts it.
func (st *stream) give(ctx context.Context, b dispatch.Batch) error {
	if err := given(ctx, st.to.give(b)); err != nil {
		return err
	}
	if b.Empty() {
		st.counts.heartbeats.Add(1)
	}
	if b.Gap != nil {
		st.counts.gaps.Add(1)
	}
	return nil
}

// given returns the error of a stream whose transport has answered err.
func given(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	// What a transport does not take, nobody reads: the caller is gone.
	return fmt.Errorf("%w: %w", context.Canceled, err)
}

// sitOut waits, with heartbeats, while the table cannot be read, and returns the first
// read that does not fail for want of the database.
func (st *stream) sitOut(ctx context.Context) (dispatch.Batch, error) {
	timer := time.NewTimer(maxPause)
	defer timer.Stop()
	quiet := time.Now()
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		timer.Reset(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return dispatch.Batch{}, ctx.Err()
		}
		batch, err := st.sub.Next(ctx, streamMax, 0)
		if !errors.Is(err, bus.ErrUnavailable) {
			return batch, err
		}
		if time.Since(quiet) >= st.heartbeat {
			if err := st.give(ctx, dispatch.Batch{Last: st.sub.Last()}); err != nil {
				return dispatch.Batch{}, err
			}
			quiet = time.Now()
		}
	}
}

// walkingOf checks a request.
func (s *Service) walkingOf(req *postbusv1.SubscribeRequest) (walking, error) {
	if err := refuseUnknown("request", req, req.GetHeartbeat()); err != nil {
		return walking{}, err
	}
	vs := s.limits.CheckChannels("channels", req.GetChannels())
	after, afterFault := cursor(req.After)
	vs = append(vs, afterFault...)
	w := walking{channels: unique(req.GetChannels()), after: after, heartbeat: defaultHeartbeat}
	if req.Heartbeat != nil {
		w.heartbeat = req.GetHeartbeat().AsDuration()
		if w.heartbeat < minHeartbeat || w.heartbeat > maxWait {
			vs = append(vs, durationFault("heartbeat", req.GetHeartbeat(), fmt.Sprintf("%v to %v", minHeartbeat, maxWait)))
		}
	}
	if len(vs) > 0 {
		return walking{}, &bus.InvalidError{Reason: bus.InvalidField, Violations: vs}
	}
	return w, nil
}
