//go:build unix

package fanout

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
)

// minBursts is how many bursts a run has at least, however long they take.
const minBursts = 3

// What a sample of bursts has in its figures.
const (
	burstCount = iota
	burstDeliveries
	burstResponses
	burstSinkCPU // seconds
)

// A target is a server with its readers.
type target struct {
	server     int       // process number
	postmaster int       // process number; 0: there is none
	sink       *sink.Far // nil: nobody reads
	send       func(ctx context.Context, size int) error
}

// bursts sends burst after burst, each when every reader has got the one before and
// not sooner than pace after it, until the server has spent so much CPU time.
func (t *target) bursts(ctx context.Context, size int, pace, budget time.Duration) (s compare.Sample, err error) {
	var responses float64
	var spent time.Duration
	if t.sink != nil {
		if responses, err = t.sink.Responses(); err != nil {
			return s, err
		}
		if spent, err = t.sink.CPU(); err != nil {
			return s, err
		}
	}
	m, err := rig.NewMeter(t.postmaster, t.server)
	if err != nil {
		return s, err
	}
	count, deliveries := 0, 0
	begin := time.NewTimer(0)
	defer begin.Stop()
	for ; ; count++ {
		if done, err := enough(m, budget); err != nil {
			return s, err
		} else if done && count >= minBursts {
			break
		}
		select {
		case <-begin.C:
		case <-ctx.Done():
			return s, ctx.Err()
		}
		begin.Reset(pace)
		if t.sink == nil {
			err = t.send(ctx, size)
		} else {
			deliveries += size * t.sink.Plan.Readers
			err = t.sink.Burst(ctx, size, func(ctx context.Context) error { return t.send(ctx, size) })
		}
		if err != nil {
			return s, fmt.Errorf("burst %d: %w", count+1, err)
		}
	}
	if s, err = m.Sample(float64(count), float64(deliveries), 0, 0); err != nil || t.sink == nil {
		return s, err
	}
	spentAfter, err := t.sink.CPU()
	if err != nil {
		return s, err
	}
	responsesAfter, err := t.sink.Responses()
	if err != nil {
		return s, err
	}
	s.Figures[burstResponses], s.Figures[burstSinkCPU] = responsesAfter-responses, (spentAfter - spent).Seconds()
	return s, t.sink.Check()
}

// enough reports whether the server has spent its budget since m began, or the time is over
// in which a calm machine would have got there.
func enough(m *rig.Meter, budget time.Duration) (bool, error) {
	const calm = 3 // as much wall time
	if time.Since(m.Began) >= calm*budget {
		return true, nil
	}
	spent, err := m.ServerTime()
	return spent >= budget, err
}
