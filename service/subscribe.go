package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

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

// A walking is what a stream asks for, checked.
type walking struct {
	channels  []string // without repetition
	after     *bus.ID  // nil: from now on
	heartbeat time.Duration
}

// Subscribe implements BusServiceServer. It keeps the stack of an idle stream small: it
// waits a few frames below gRPC's own.
func (s *Service) Subscribe(req *postbusv1.SubscribeRequest, stream grpc.ServerStreamingServer[postbusv1.SubscribeResponse]) (err error) {
	ctx := stream.Context()
	defer s.finish(ctx, "Subscribe", &err)
	w, err := s.walkingOf(req)
	if err != nil {
		return err
	}
	return s.walk(ctx, w, func(b dispatch.Batch) error { return stream.SendMsg(newFrame(b)) })
}

// walk gives a stream its batches until ctx ends, the node drains or give fails. The
// first comes at once, perhaps empty; an empty one is also the heartbeat. Once
// it was given, a database that is away ends nothing: heartbeats go on, and reading does
// when the database is back. Before bus.ErrDraining give gets a batch with the last.
func (s *Service) walk(ctx context.Context, w walking, give func(dispatch.Batch) error) error {
	leave, err := s.enter(&s.counts.streams)
	if err != nil {
		return err
	}
	defer leave()
	sub, err := s.opts.Dispatcher.Subscribe(ctx, w.channels, w.after)
	if err != nil {
		return err
	}
	defer sub.Close()
	batch, err := sub.Next(ctx, streamMax, 0)
	if err != nil && !errors.Is(err, bus.ErrDraining) {
		return err // nothing was promised yet: the caller may try elsewhere
	}
	for {
		if sent := s.give(ctx, batch, give); sent != nil {
			return sent
		}
		if err != nil {
			return err // draining, and the last is out
		}
		batch, err = sub.Next(ctx, streamMax, w.heartbeat)
		if errors.Is(err, bus.ErrUnavailable) {
			batch, err = s.sitOut(ctx, sub, w.heartbeat, give)
		}
		if err != nil && !errors.Is(err, bus.ErrDraining) {
			return err
		}
	}
}

// give gives one batch and counts it.
func (s *Service) give(ctx context.Context, b dispatch.Batch, give func(dispatch.Batch) error) error {
	if err := give(b); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// What a transport does not take, nobody reads: the caller is gone.
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	if b.Empty() {
		s.counts.heartbeats.Add(1)
	}
	s.countBatch(b)
	return nil
}

// sitOut waits, with heartbeats, while sub cannot be read, and returns the first read
// that does not fail for want of the database.
func (s *Service) sitOut(ctx context.Context, sub *dispatch.Subscription, heartbeat time.Duration, give func(dispatch.Batch) error) (dispatch.Batch, error) {
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
		batch, err := sub.Next(ctx, streamMax, 0)
		if !errors.Is(err, bus.ErrUnavailable) {
			return batch, err
		}
		if time.Since(quiet) >= heartbeat {
			if err := s.give(ctx, dispatch.Batch{Last: sub.Last()}, give); err != nil {
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
