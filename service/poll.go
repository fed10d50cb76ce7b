package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

const (
	defaultPollTimeout = 25 * time.Second
	defaultPollMax     = 100
	maxPollMax         = 1_000
	// maxWait is the longest that a poll or a heartbeat waits: below the 60 s after
	// which proxies give up on a silent answer.
	maxWait = 50 * time.Second
)

// A reading is what a poll asks for, checked.
type reading struct {
	channels []string // without repetition
	after    *bus.ID  // nil: from now on
	max      int
	wait     time.Duration
}

// pollFrame is BusService.Poll as gRPC calls it; its answer is encoded already.
func (s *Service) pollFrame(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	req := new(postbusv1.PollRequest)
	if err := decode(req); err != nil {
		return nil, err
	}
	answer := func(ctx context.Context, req any) (resp any, err error) {
		defer s.finish(ctx, "Poll", &err)
		batch, err := s.pollRequest(ctx, req.(*postbusv1.PollRequest))
		if err != nil {
			return nil, err
		}
		return newFrame(batch), nil
	}
	if intercept == nil {
		return answer(ctx, req)
	}
	return intercept(ctx, req, &grpc.UnaryServerInfo{Server: s, FullMethod: postbusv1.BusService_Poll_FullMethodName}, answer)
}

// pollRequest answers req with the domain's form of a response.
func (s *Service) pollRequest(ctx context.Context, req *postbusv1.PollRequest) (dispatch.Batch, error) {
	r, err := s.readingOf(req)
	if err != nil {
		return dispatch.Batch{}, err
	}
	return s.poll(ctx, r, notEmpty)
}

// notEmpty says that a poll has something to answer.
func notEmpty(b dispatch.Batch) bool { return !b.Empty() }

// poll waits for the first batch that is enough and returns it; without one it returns
// the last, which is empty, when the wait is over or shortly before ctx's deadline. A
// poll that the stop of this node cuts short answers what it has scanned.
func (s *Service) poll(ctx context.Context, r reading, enough func(dispatch.Batch) bool) (dispatch.Batch, error) {
	p, err := s.openPoll(ctx, r, enough)
	if err != nil {
		return dispatch.Batch{}, err
	}
	if err := p.await(ctx); err != nil {
		return dispatch.Batch{}, err
	}
	return p.batch, nil
}

// A polling is a poll under way.
type polling struct {
	*Service
	sub    *dispatch.Subscription
	max    int
	until  time.Time
	enough func(dispatch.Batch) bool

	answered bool
	batch    dispatch.Batch // the answer
	left     bool           // not one of the open polls any more
}

// openPoll admits a poll, and looks what there is for it.
func (s *Service) openPoll(ctx context.Context, r reading, enough func(dispatch.Batch) bool) (*polling, error) {
	if err := s.enter(&s.counts.polls); err != nil {
		return nil, err
	}
	p := &polling{Service: s, max: r.max, until: time.Now().Add(waitWithin(ctx, r.wait)), enough: enough}
	var err error
	if p.sub, err = s.opts.Dispatcher.Subscribe(ctx, r.channels, r.after); err != nil {
		s.leave(&s.counts.polls)
		return nil, err
	}
	if err := p.look(ctx); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// await waits until p has its answer, on a small stack, and closes it.
func (p *polling) await(ctx context.Context) (err error) {
	defer p.close()
	for !p.answered && err == nil {
		if err = p.sub.Await(ctx, time.Until(p.until)); err == nil {
			err = p.hands.aside(func() error { return p.look(ctx) })
		}
	}
	return err
}

// errAnswered is the end of a ride whose answer is out.
var errAnswered = errors.New("the poll was answered")

// ride is await for a poll that may be answered by to.Carry, too: what that returns is
// returned.
func (p *polling) ride(ctx context.Context, to dispatch.Carrier) error {
	defer p.close()
	for !p.answered {
		batch, err := p.sub.Ride(ctx, p.max, time.Until(p.until), to)
		if err = p.settle(batch, err); err != nil {
			return err
		}
	}
	return nil
}

func (p *polling) close() {
	p.sub.Close()
	p.makeRoom()
}

// makeRoom lets another poll in, once, by who answers p or closes it.
func (p *polling) makeRoom() {
	if !p.left {
		p.left = true
		p.leave(&p.counts.polls)
	}
}

// look answers p if what there is now is enough, or the wait is over.
func (p *polling) look(ctx context.Context) error {
	for {
		batch, err := p.sub.Next(ctx, p.max, 0)
		if err = p.settle(batch, err); err != nil || p.answered || batch.Empty() {
			return err
		}
	}
}

// settle answers p with what the Subscription has returned, if that is enough, or the wait
// is over.
func (p *polling) settle(batch dispatch.Batch, err error) error {
	drained := errors.Is(err, bus.ErrDraining)
	if err != nil && !drained {
		return err
	}
	if batch.Gap != nil {
		p.counts.gaps.Add(1)
	}
	switch {
	case drained || p.enough(batch):
	case !batch.Empty() || time.Until(p.until) > 0:
		return nil
	case !p.opts.Dispatcher.State().Connected:
		return fmt.Errorf("nothing came, and the tail is not followed: %w", bus.ErrUnavailable)
	}
	p.counts.pollsAnswered.Add(1)
	p.batch, p.answered = batch, true
	return nil
}

// waitWithin shortens wait so that the answer gets out before ctx's deadline: by the
// smaller of 1 s and a quarter of the time left. With hardly any left it is 0.
func waitWithin(ctx context.Context, wait time.Duration) time.Duration {
	const hardlyAny = 10 * time.Millisecond
	deadline, ok := ctx.Deadline()
	if !ok {
		return wait
	}
	left := time.Until(deadline)
	if left < hardlyAny {
		return 0
	}
	return min(wait, left-min(time.Second, left/4))
}

// readingOf checks a request.
func (s *Service) readingOf(req *postbusv1.PollRequest) (reading, error) {
	if err := refuseUnknown("request", req, req.GetTimeout()); err != nil {
		return reading{}, err
	}
	vs := s.limits.CheckChannels("channels", req.GetChannels())
	after, afterFault := cursor(req.After)
	vs = append(vs, afterFault...)
	r := reading{channels: unique(req.GetChannels()), after: after, max: defaultPollMax, wait: s.opts.PollTimeout}
	if req.Max != nil {
		r.max = int(req.GetMax())
		if r.max < 1 || r.max > maxPollMax {
			vs = append(vs, bus.Violation{Field: "max", Fault: fmt.Sprintf("%d, 1 to %d", r.max, maxPollMax)})
		}
	}
	if req.Timeout != nil {
		r.wait = min(req.GetTimeout().AsDuration(), maxWait)
		if r.wait < 0 {
			vs = append(vs, durationFault("timeout", req.GetTimeout(), "must not be negative"))
		}
	}
	if len(vs) > 0 {
		return reading{}, &bus.InvalidError{Reason: bus.InvalidField, Violations: vs}
	}
	return r, nil
}

// cursor returns the domain's form of a request's after.
func cursor(after *int64) (*bus.ID, []bus.Violation) {
	if after == nil {
		return nil, nil
	}
	if *after < 0 {
		return nil, []bus.Violation{{Field: "after", Fault: fmt.Sprintf("%d, must not be negative", *after)}}
	}
	id := bus.ID(*after)
	return &id, nil
}

func durationFault(field string, d *durationpb.Duration, rule string) bus.Violation {
	return bus.Violation{Field: field, Fault: formatDuration(d.AsDuration()) + ", " + rule}
}

// unique returns channels without repetition, in their order.
func unique(channels []string) []string {
	if len(channels) < 2 {
		return channels
	}
	seen := make(map[string]struct{}, len(channels))
	out := make([]string, 0, len(channels))
	for _, channel := range channels {
		if _, again := seen[channel]; !again {
			seen[channel] = struct{}{}
			out = append(out, channel)
		}
	}
	return out
}
