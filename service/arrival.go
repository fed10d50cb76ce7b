package service

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// receiveTick is how long a request may take to come before its bytes are counted, and
// how often they are counted from then on. What has not been counted is bounded by what
// the network brings in this time.
const receiveTick = 100 * time.Millisecond

// An arrival is a message as it comes from the wire. A hand reads it, between begin and
// end; if that takes long, a timer counts its bytes and its time, and refuses it above a
// bound (TestClientsThatNeverFinishAreEnded, TestBytesOfRequestsAboveTheBoundAreTold).
type arrival struct {
	call    *admitted
	message any
	most    int
	size    int
	err     error
	began   time.Time
	before  int64 // bytes that had come on the connection

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	over    bool // come, or refused
	refusal *fault
	counted int64 // bytes of MaxRequestBytes
}

// begin watches the reading until end.
func (in *arrival) begin() {
	in.began = time.Now()
	if g := in.call.guest; g != nil {
		g.receiving.Add(1)
		in.before = g.arrived.Load()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.timer = time.AfterFunc(receiveTick, in.tick)
}

// end ends the watch. It returns the refusal, if the message was refused before it came.
func (in *arrival) end() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.timer.Stop()
	in.endLocked()
	if in.refusal != nil {
		return in.refusal
	}
	return nil
}

func (in *arrival) endLocked() {
	if in.over {
		return
	}
	in.over = true
	if g := in.call.guest; g != nil {
		g.receiving.Add(-1)
	}
	in.call.service.requestBytes.give(in.counted)
}

// tick counts once more, and ends the call when the message is refused.
func (in *arrival) tick() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.over {
		return
	}
	if err := in.countLocked(); err != nil {
		in.endLocked()
		in.refusal = in.call.service.refuse(in.call.Context(), "RecvMsg", err)
		in.call.ended <- outcome{err: in.refusal} // there is room
		return
	}
	in.timer.Reset(receiveTick)
}

// countLocked returns why the message is refused.
func (in *arrival) countLocked() error {
	s := in.call.service
	if time.Since(in.began) >= s.opts.ReceiveTimeout {
		return fmt.Errorf("the request did not come within %v: %w", s.opts.ReceiveTimeout, context.DeadlineExceeded)
	}
	more := max(in.share()-in.counted, 0)
	if more > 0 && !s.requestBytes.take(more) {
		return s.errTooManyBytes()
	}
	in.counted += more
	return nil
}

// share returns how many bytes of the message can have come, at most: of what its
// connection has read since, its part among those that are being received on it.
func (in *arrival) share() int64 {
	most := wireFactor * int64(in.call.service.limits.MaxRequest)
	g := in.call.guest
	if g == nil {
		return most
	}
	return min(most, (g.arrived.Load()-in.before)/max(g.receiving.Load(), 1))
}

// arrivalCodec decodes arrivals. It never fails: gRPC would answer by itself then.
type arrivalCodec struct{ encoding.CodecV2 }

// Unmarshal decodes data into v.
func (c arrivalCodec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*arrival)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if in.size = data.Len(); in.size <= in.most {
		in.err = c.CodecV2.Unmarshal(data, in.message)
	}
	return nil
}
