//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/postbus/postbus/bench/internal/rig"
)

// burstPatience is how long one burst may take to come to all readers.
const burstPatience = time.Minute

// sinkPart is a sink as a process. Its argument is the plan. It is asked
//
//	until COUNT   and says "got" once all readers together have got COUNT notifications
//	              since the begin
//	check COUNT   and answers "ok" if every reader has got COUNT; else it fails
//	responses 0   and answers how many responses had notifications
func sinkPart(ctx context.Context, args []string, in io.Reader, out io.Writer) (err error) {
	if len(args) != 1 {
		return fmt.Errorf("sink: %d arguments, must be 1", len(args))
	}
	var plan sinkPlan
	if err := json.Unmarshal([]byte(args[0]), &plan); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	var mu sync.Mutex // guards out
	say := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(out, text)
	}
	s, err := openSink(ctx, plan, nil, func() { say("got") })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
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

func (s *sink) obey(in io.Reader, say func(string)) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var word string
		var number int64
		if _, err := fmt.Sscan(lines.Text(), &word, &number); err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		switch word {
		case "until":
			s.until(number)
		case "check":
			if err := s.check(number); err != nil {
				return err
			}
			say("ok")
		case "responses":
			say(fmt.Sprint(s.responses()))
		default:
			return fmt.Errorf("%q: no such request", word)
		}
	}
	return lines.Err()
}

// A farSink is a sink in another process.
type farSink struct {
	*rig.Part
	plan      sinkPlan
	delivered int64 // to all readers, since the begin
}

// startSink starts a sink as a process and returns when its streams are open.
func startSink(ctx context.Context, plan sinkPlan) (*farSink, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	p, err := rig.StartPart(ctx, rig.OpenPatience, nil, "sink", string(text))
	if err != nil {
		return nil, err
	}
	return &farSink{Part: p, plan: plan}, nil
}

// expect announces so many more notifications. Behind it comes wait.
func (f *farSink) expect(notifications int64) error {
	f.delivered += notifications
	return f.Tell("until", f.delivered)
}

// wait returns when all that was expected has come.
func (f *farSink) wait() error {
	line, err := f.Line(burstPatience)
	if err == nil && line != "got\n" {
		err = fmt.Errorf("the sink said %q", line)
	}
	return err
}

// check returns an error unless every reader has got an equal part of what was expected.
func (f *farSink) check() error {
	_, err := f.Ask(fmt.Sprintf("check %d", f.delivered/int64(f.plan.Readers)))
	return err
}

// responses returns how many responses with notifications have come.
func (f *farSink) responses() (count float64, err error) {
	line, err := f.Ask("responses 0")
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(line, &count)
	return count, err
}
