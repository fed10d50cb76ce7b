package dispatch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// BenchmarkFanOut is what the dispatcher itself adds to a delivery: nothing is sent.
func BenchmarkFanOut(b *testing.B) {
	for _, readers := range []int{100, 1_000, 10_000} {
		for _, burst := range []int{1, 32} {
			for _, how := range []string{"next", "ride"} {
				b.Run(fmt.Sprintf("%s/readers=%d/burst=%d", how, readers, burst), func(b *testing.B) {
					benchmarkFanOut(b, how == "ride", readers, burst)
				})
			}
		}
	}
}

func benchmarkFanOut(b *testing.B, ride bool, readers, burst int) {
	d := New(Options{Store: newModel(), WindowBytes: 1 << 20})
	d.begin(Position{})
	d.readies.Do(func() { close(d.ready) })
	ctx, stop := context.WithCancel(context.Background())
	var left atomic.Int64
	done := make(chan struct{}, 1)
	got := func(n int) {
		if left.Add(-int64(n)) == 0 {
			done <- struct{}{}
		}
	}
	var ended sync.WaitGroup
	for i := range readers {
		s, err := d.Subscribe(ctx, []string{"a"}, nil)
		if err != nil {
			b.Fatal(err)
		}
		to := Carrier{Peer: uint64(i), Carry: func(x *Batch) error { got(len(x.Notifications)); return nil }}
		ended.Go(func() {
			defer s.Close()
			for {
				var x Batch
				var err error
				if ride {
					x, err = s.Ride(ctx, 1000, time.Hour, to)
				} else {
					x, err = s.Next(ctx, 1000, time.Hour)
				}
				if err != nil {
					return
				}
				if len(x.Notifications) > 0 {
					got(len(x.Notifications))
				}
			}
		})
	}
	id := bus.ID(0)
	b.ResetTimer()
	for b.Loop() {
		left.Store(int64(readers * burst))
		var ns []*bus.Notification
		for range burst {
			id++
			ns = append(ns, &bus.Notification{ID: id, Channel: "a", JSON: "1"})
		}
		d.Offer(ns)
		<-done
	}
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*readers*burst), "ns/delivery")
	stop()
	ended.Wait()
}

// A courier's goroutine may wait for a processor for longer than one that is held up is
// left alone.
func TestCourierThatHasNotBegunIsNotReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, send := following(t, Options{})
		ctx, stop := context.WithCancel(t.Context())
		rides := startRider(ctx, subscribe(t, d, nil, "a"), 0, nil)
		synctest.Wait()
		r := rides.sub.round
		func() {
			r.mu.Lock() // so that the courier does not begin
			defer r.mu.Unlock()
			r.addLocked(rides.sub)
			for range 2 * watchLooks {
				r.watchLocked()
			}
		}()
		send("a")
		rides.expect(t, "the rider", 1, 1)
		if n := d.State().Stalls; n != 0 {
			t.Errorf("%d stalls counted, want 0", n)
		}
		stop()
		<-rides.ended
	})
}
