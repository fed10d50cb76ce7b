package service

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/postbus/postbus/internal/bus"
)

// A silent is a stream on which nothing happens.
type silent struct{ grpc.ServerStream }

// Context returns a context that stays.
func (silent) Context() context.Context { return context.Background() }

// TestSlowMessagesAreCountedAndRefused: what takes longer than a tick is counted by its
// share of its connection, within both bounds, and leaves nothing counted, whether it comes
// or is refused, or both at once.
func TestSlowMessagesAreCountedAndRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Service{counts: newCounts(), limits: bus.DefaultLimits(), opts: Options{ReceiveTimeout: time.Second, MaxRequestBytes: 1000}}
		s.requestBytes.most = 1000
		g := new(guest)
		begin := func() *arrival {
			in := &arrival{call: &admitted{ServerStream: silent{}, service: s, guest: g, ended: make(chan outcome, 2)}}
			in.begin()
			return in
		}
		counts := func(receiving, bytes int64) {
			t.Helper()
			synctest.Wait()
			if r, b := g.receiving.Load(), s.requestBytes.used.Load(); r != receiving || b != bytes {
				t.Errorf("%d are being received, %d bytes are counted; want %d, %d", r, b, receiving, bytes)
			}
		}
		refused := func(in *arrival, code codes.Code) {
			t.Helper()
			select {
			case o := <-in.call.ended:
				if end := in.end(); faultOf(o.err).code != code || !errors.Is(end, o.err) {
					t.Errorf("refused with %v and %v, want %v", o.err, end, code)
				}
			default:
				t.Errorf("not refused, want %v", code)
			}
		}
		one := begin()
		g.arrived.Add(400)
		counts(1, 0)
		time.Sleep(receiveTick)
		counts(1, 400)
		time.Sleep(receiveTick / 2)
		two := begin() // half of what comes is the first one's
		g.arrived.Add(800)
		time.Sleep(receiveTick)
		counts(2, 600+400)
		g.arrived.Add(100)
		time.Sleep(receiveTick / 2)
		counts(1, 400)
		refused(one, codes.ResourceExhausted)
		time.Sleep(receiveTick / 2)
		counts(1, 900)
		if err := two.end(); err != nil {
			t.Error(err)
		}
		counts(0, 0)
		late := begin()
		time.Sleep(s.opts.ReceiveTimeout)
		counts(0, 0)
		refused(late, codes.DeadlineExceeded)
		counts(0, 0)
		time.Sleep(time.Hour)
		if n := len(one.call.ended) + len(two.call.ended) + len(late.call.ended); n != 0 {
			t.Errorf("%d refusals more", n)
		}
	})
}
