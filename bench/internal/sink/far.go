//go:build unix

package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// BurstPatience is how long one burst may take to come to all readers.
const BurstPatience = time.Minute

// Roles are what this program can be for a far sink.
func Roles() []rig.Role { return []rig.Role{{Name: "sink", Play: play}} }

// play is a sink as a process. Its argument is the plan. It is asked
//
//	until COUNT   and says "got" once all readers together have got COUNT notifications
//	              since the begin
//	check COUNT   and answers "ok" if every reader has got COUNT; else it fails
//	responses 0   and answers how many responses had notifications
func play(ctx context.Context, args []string, in io.Reader, out io.Writer) (err error) {
	if len(args) != 1 {
		return fmt.Errorf("sink: %d arguments, must be 1", len(args))
	}
	var plan Plan
	if err := json.Unmarshal([]byte(args[0]), &plan); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	var mu sync.Mutex // guards out
	say := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(out, text)
	}
	s, err := Open(ctx, plan, nil, func() { say("got") })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	say("ready sink")
	obeyed := make(chan error, 1)
	go func() { obeyed <- s.obey(in, say) }()
	select {
	case err := <-s.failed:
		return err
	case err := <-obeyed:
		return err
	}
}

func (s *Sink) obey(in io.Reader, say func(string)) error {
	return rig.Obey(in, func(line string) error {
		var word string
		var number int64
		if _, err := fmt.Sscan(line, &word, &number); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		switch word {
		case "until":
			s.Until(number)
		case "check":
			if err := s.Check(number); err != nil {
				return err
			}
			say("ok")
		case "responses":
			say(fmt.Sprint(s.Responses()))
		default:
			return fmt.Errorf("%q: no such request", word)
		}
		return nil
	})
}

// A Far is a sink in another process.
type Far struct {
	*rig.Part
	Plan      Plan
	Delivered int64 // to all readers, since the begin
}

// Start starts a sink as a process and returns when its streams are open.
func Start(ctx context.Context, plan Plan) (*Far, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	p, err := rig.StartPart(ctx, rig.OpenPatience, nil, "sink", string(text))
	if err != nil {
		return nil, err
	}
	return &Far{Part: p, Plan: plan}, nil
}

// Expect announces so many more notifications. Behind it comes wait.
func (f *Far) Expect(notifications int64) error {
	f.Delivered += notifications
	return f.Tell("until", f.Delivered)
}

// Wait returns when all that was expected has come.
func (f *Far) Wait() error {
	line, err := f.Line(BurstPatience)
	if err == nil && line != "got\n" {
		err = fmt.Errorf("the sink said %q", line)
	}
	return err
}

// Check returns an error unless every reader has got an equal part of what was expected.
func (f *Far) Check() error {
	_, err := f.Ask(fmt.Sprintf("check %d", f.Delivered/int64(f.Plan.Readers)))
	return err
}

// Responses returns how many responses with notifications have come.
func (f *Far) Responses() (count float64, err error) {
	line, err := f.Ask("responses 0")
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(line, &count)
	return count, err
}

// Burst sends size messages that every reader gets, and returns when it has.
func (f *Far) Burst(ctx context.Context, size int, send func(context.Context) error) error {
	if err := f.Expect(int64(size) * int64(f.Plan.Readers)); err != nil {
		return err
	}
	if err := send(ctx); err != nil {
		return err
	}
	return f.Wait()
}

// Scatter sends size messages to the channels that draw numbers, of which reader i reads
// the i-th, and returns when those have come that are read.
func (f *Far) Scatter(ctx context.Context, bus postbusv1.BusServiceClient, size int, draw func() int) error {
	request := &postbusv1.SendRequest{Messages: make([]*postbusv1.Message, size)}
	read := int64(0)
	for i := range request.Messages {
		channel := draw()
		if channel < f.Plan.Readers {
			read++
		}
		request.Messages[i] = &postbusv1.Message{Channel: f.Plan.channel(channel), Body: &postbusv1.Message_Json{Json: rig.Payload()}}
	}
	if read > 0 {
		if err := f.Expect(read); err != nil {
			return err
		}
	}
	if _, err := bus.Send(ctx, request); err != nil || read == 0 {
		return err
	}
	return f.Wait()
}

// Each sends a message to every reader's own channel and waits until all have come.
func (f *Far) Each(ctx context.Context, bus postbusv1.BusServiceClient) error {
	if err := f.Expect(int64(f.Plan.Readers)); err != nil {
		return err
	}
	const limit = 1_000 // of a call
	for from := 0; from < f.Plan.Readers; from += limit {
		request := &postbusv1.SendRequest{}
		for i := from; i < min(from+limit, f.Plan.Readers); i++ {
			request.Messages = append(request.Messages, &postbusv1.Message{Channel: f.Plan.channel(i), Body: &postbusv1.Message_Json{Json: rig.Payload()}})
		}
		if _, err := bus.Send(ctx, request); err != nil {
			return err
		}
	}
	return f.Wait()
}
