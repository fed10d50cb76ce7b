package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// SubscribeOptions say what to read.
type SubscribeOptions struct {
	// Channels are the addresses to read: 1 to 1,000. Required.
	Channels []string

	// After is the cursor: reading begins behind this id. 0: with the oldest
	// retained. Nil: from now on, where now is the server's first response.
	After *int64

	// Heartbeat is the longest silence of the server, 1 s to 50 s. A stream that is
	// silent for twice as long and silenceMargin more is taken as dead. 0: 20 s.
	Heartbeat time.Duration

	// Positions asks for an Event without notification and gap too whenever the
	// server says how far this reader is: at once when a stream opens (from then on
	// nothing is missed), and as heartbeat.
	Positions bool

	// OnBreak, if set, is called by the goroutine that reads when a stream ended or
	// could not be opened and will be tried again after wait.
	OnBreak func(err error, wait time.Duration)
}

// An Event is one thing that a subscription has to say: a notification, a gap or,
// with SubscribeOptions.Positions, only how far it is.
type Event struct {
	// Notification is nil in a gap or a position.
	Notification *Notification

	// Gap is what is lost; nil: nothing.
	Gap *Gap

	// Last is the cursor behind this event: keep it together with what the event
	// caused, and pass it as After to go on there in another process.
	Last int64
}

const (
	defaultHeartbeat = 20 * time.Second
	silenceMargin    = 5 * time.Second

	// A stream that lived this long was a good one: the next break starts with a
	// short wait again.
	goodStream = 30 * time.Second
)

// A Subscription reads channels from one id onward, over as many streams as it
// takes. Use it from one goroutine. It is only a cursor: it holds nothing open
// between two calls of All, and dropping it ends it.
type Subscription struct {
	client  *Client
	options SubscribeOptions
	request *postbusv1.SubscribeRequest // with the cursor: After, nil until a first response came
	silence time.Duration
	wait    delay
}

// Subscribe returns a Subscription that begins at o.After. It does nothing yet: All
// reads.
func (c *Client) Subscribe(o SubscribeOptions) *Subscription {
	s := &Subscription{
		client: c, options: o,
		request: &postbusv1.SubscribeRequest{Channels: o.Channels},
		wait:    delay{first: 200 * time.Millisecond, most: 30 * time.Second},
	}
	if o.After != nil {
		s.request.After = new(*o.After)
	}
	heartbeat := defaultHeartbeat
	if o.Heartbeat != 0 {
		heartbeat = o.Heartbeat
		s.request.Heartbeat = durationpb.New(heartbeat)
	}
	s.silence = max(2*heartbeat, 0) + silenceMargin
	return s
}

// Last returns the cursor: what was handed out up to it will not come again. It is
// false as long as reading from now on has not begun.
func (s *Subscription) Last() (int64, bool) {
	return s.request.GetAfter(), s.request.After != nil
}

// All returns what comes, notifications with ascending ids, each once
// (TestSubscriptionResumesWithoutLossOrRepetition), and gaps in their place. When a
// stream ends, breaks or falls silent it opens the next one, after a jittered wait
// of at most 30 s, or more if the server asks for it.
//
// It ends without an error when ctx is done, and with one, its last pair, when the
// server refuses in a way that trying again cannot cure (a channel that is not
// valid, a credential) or the Client is closed. A loop that breaks off may call All again: it goes on behind
// the last event that was handed out.
func (s *Subscription) All(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			opened := time.Now()
			end := s.stream(ctx, yield)
			if errors.Is(end, errStopped) || ctx.Err() != nil {
				return
			}
			if !curable(end) || s.client.closed() {
				yield(Event{}, fmt.Errorf("subscribe to %d channels: %w", len(s.options.Channels), end))
				return
			}
			if time.Since(opened) > goodStream {
				s.wait.reset()
			}
			wait := s.wait.after(end)
			if s.options.OnBreak != nil {
				s.options.OnBreak(end, wait)
			}
			if !pause(ctx, wait) {
				return
			}
		}
	}
}

// errStopped is the end of a stream whose reader broke off its loop.
var errStopped = errors.New("the reader stopped")

// stream reads one stream to its end and returns why it ended.
func (s *Subscription) stream(asked context.Context, yield func(Event, error) bool) error {
	ctx, cancel := context.WithCancelCause(asked)
	defer cancel(errStopped)
	// Only silence of the server counts, not the time that the reader takes.
	silent := time.AfterFunc(s.silence, func() {
		cancel(fmt.Errorf("no response for %v", s.silence))
	})
	defer silent.Stop()
	stream, err := s.client.bus.Subscribe(ctx, s.request)
	if err != nil {
		return endOf(ctx, err)
	}
	for {
		response, err := stream.Recv()
		silent.Stop()
		if err != nil {
			return endOf(ctx, err)
		}
		if !s.deliver(asked, response, yield) {
			return errStopped
		}
		silent.Reset(s.silence)
	}
}

// endOf returns why a stream ended: silence shows as a cancelled context, and an
// orderly end as io.EOF.
func endOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the server ended the stream")
	}
	return err
}

// deliver hands out one response and moves the cursor with each event, before the
// reader has it: a loop that breaks off has taken the event it broke off at. It
// reports whether the reader wants more.
func (s *Subscription) deliver(ctx context.Context, response *postbusv1.SubscribeResponse, yield func(Event, error) bool) bool {
	given := false
	if gap := gapOf(response.GetGap()); gap != nil {
		// The one thing that may move a cursor backwards.
		s.request.After = new(gap.Until)
		given = true
		if !yield(Event{Gap: gap, Last: gap.Until}, nil) {
			return false
		}
	}
	for _, p := range response.GetNotifications() {
		if s.request.After != nil && p.GetId() <= s.request.GetAfter() {
			continue // handed out before
		}
		if ctx.Err() != nil {
			return false // asked to stop within a response; the rest comes again
		}
		s.request.After = new(p.GetId())
		s.wait.reset()
		given = true
		if !yield(Event{Notification: notificationOf(p), Last: p.GetId()}, nil) {
			return false
		}
	}
	if s.request.After == nil || response.GetLast() > s.request.GetAfter() {
		s.request.After = new(response.GetLast())
	}
	if s.options.Positions && !given {
		return yield(Event{Last: s.request.GetAfter()}, nil)
	}
	return true
}
