package groupcommit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestBusyKeyDelaysNobodyElse: a send whose key an open transaction uses is tried again
// until the key is free or its patience ends, and the others do not wait for it.
func TestBusyKeyDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: time.Millisecond}
		m.setBusy("k", true)
		w, _ := start(t, m, Options{InFlight: 1})
		keyed := message("keyed")
		keyed.Key = "k"
		first := sending(t.Context(), w, message("1"))
		synctest.Wait()
		busy := sending(t.Context(), w, message("before"), keyed)
		other := sending(t.Context(), w, message("1"))
		<-first
		if o := <-other; o.err != nil || o.took != 2*m.takes {
			t.Errorf("another sender of the batch: %+v", o)
		}
		for range 100 {
			if o := <-sending(t.Context(), w, message("1")); o.err != nil || o.took > 2*m.takes {
				t.Errorf("another sender: %+v", o)
			}
			time.Sleep(10 * time.Millisecond)
		}
		m.setBusy("k", false)
		freed := time.Now()
		o := <-busy
		if o.err != nil || len(o.receipts) != 2 || o.receipts[1].ID != o.receipts[0].ID+1 {
			t.Errorf("the busy send: %+v", o)
		}
		if late := time.Since(freed); late > 110*time.Millisecond {
			t.Errorf("tried again %v after the key was free", late)
		}

		m.setBusy("k", true)
		tried := len(m.begun())
		o = <-sending(t.Context(), w, keyed)
		if !errors.Is(o.err, bus.ErrKeyBusy) || o.took < 5*time.Second || o.took > 5200*time.Millisecond {
			t.Errorf("%+v, want %v after 5 s", o, bus.ErrKeyBusy)
		}
		if n := len(m.begun()) - tried; n > 70 {
			t.Errorf("tried %d times", n)
		}
	})
}

// TestQueueFullIsRefusedAtOnce, by messages and by bytes, with both bounds named; and
// what was answered makes room.
func TestQueueFullIsRefusedAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		options Options
		limit   string
	}{
		"messages": {Options{QueueMessages: 10}, "at most 10 messages"},
		"bytes":    {Options{QueueBytes: 1010}, "1010 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{takes: time.Second}
				w, _ := start(t, m, tc.options)
				large := message(strings.Repeat("1", 100)) // 101 bytes
				var outs []<-chan outcome
				for range 5 {
					outs = append(outs, sending(t.Context(), w, large, large))
				}
				synctest.Wait()
				o := <-sending(t.Context(), w, large)
				if !errors.Is(o.err, bus.ErrSendQueueFull) || o.took != 0 || !strings.Contains(o.err.Error(), tc.limit) {
					t.Errorf("%+v, want %v at once with %q", o, bus.ErrSendQueueFull, tc.limit)
				}
				if st := w.State(); st.Queued != 10 || st.QueuedBytes != 1010 {
					t.Errorf("state %+v", st)
				}
				for _, out := range outs {
					if o := <-out; o.err != nil {
						t.Error(o.err)
					}
				}
				if o := <-sending(t.Context(), w, slices.Repeat([]bus.Message{large}, 10)...); o.err != nil {
					t.Error(o.err)
				}
				if len(m.stored) != 20 {
					t.Errorf("%d messages stored, want 20", len(m.stored))
				}
			})
		})
	}
}

// TestCancelledSenderIsLeftOut of the next batch, and one with a busy key is not tried
// again; its caller does not wait.
func TestCancelledSenderIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: time.Second}
		m.setBusy("k", true)
		w, _ := start(t, m, Options{InFlight: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		first := sending(t.Context(), w, message("first"))
		synctest.Wait()
		gone := sending(ctx, w, message("gone"))
		stays := sending(t.Context(), w, message("stays"))
		if o := <-gone; !errors.Is(o.err, context.DeadlineExceeded) || o.took != 500*time.Millisecond {
			t.Errorf("%+v", o)
		}
		<-first
		if o := <-stays; o.err != nil {
			t.Error(o.err)
		}
		for _, n := range m.stored {
			if n.JSON == "gone" {
				t.Error("what nobody waits for was stored")
			}
		}

		keyed := message("keyed")
		keyed.Key = "k"
		ctx, cancel = context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		if o := <-sending(ctx, w, keyed); !errors.Is(o.err, context.DeadlineExceeded) {
			t.Errorf("%+v", o)
		}
		time.Sleep(3 * time.Second)
		if st := w.State(); st.Queued != 0 {
			t.Errorf("state %+v still counts those who have gone", st)
		}
		m.setBusy("k", false)
		time.Sleep(10 * time.Second)
		if n := len(m.stored); n != 2 {
			t.Errorf("%d messages stored, want 2", n)
		}
	})
}

// TestStopAnswersEveryAcceptedSend: what was accepted is stored or answered before Run
// returns, those with a busy key too, and nothing is accepted afterwards.
func TestStopAnswersEveryAcceptedSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: 10 * time.Millisecond}
		m.setBusy("k", true)
		w, stop := start(t, m, Options{InFlight: 1, BatchMessages: 10})
		keyed := message("keyed")
		keyed.Key = "k"
		parked := sending(t.Context(), w, keyed)
		time.Sleep(11 * time.Millisecond)
		var outs []<-chan outcome
		for range 100 {
			outs = append(outs, sending(t.Context(), w, message("1")))
		}
		lateKeyed := sending(t.Context(), w, keyed)
		synctest.Wait()
		stop()
		synctest.Wait()
		for _, out := range outs {
			select {
			case o := <-out:
				if o.err != nil {
					t.Error(o.err)
				}
			default:
				t.Fatal("Run has returned, and a sender still waits")
			}
		}
		for _, out := range []<-chan outcome{parked, lateKeyed} {
			select {
			case o := <-out:
				if !errors.Is(o.err, bus.ErrKeyBusy) {
					t.Errorf("%+v, want %v", o, bus.ErrKeyBusy)
				}
			default:
				t.Fatal("Run has returned, and a sender with a busy key still waits")
			}
		}
		if o := <-sending(t.Context(), w, message("1")); !errors.Is(o.err, bus.ErrDraining) {
			t.Errorf("%+v, want %v", o, bus.ErrDraining)
		}
	})
}

// TestStopUnderLoad: senders who send again and again do not keep Run from stopping, and
// what they send after ctx ended is refused at once.
func TestStopUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: 10 * time.Millisecond}
		w, stop := start(t, m, Options{BatchMessages: 10})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var senders sync.WaitGroup
		for range 200 {
			senders.Go(func() {
				for {
					switch _, err := w.Send(ctx, []bus.Message{message("1")}); {
					case errors.Is(err, bus.ErrDraining):
						return
					case err != nil:
						t.Errorf("Send: %v", err)
						return
					}
				}
			})
		}
		time.Sleep(time.Second)
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > 300*time.Millisecond {
			t.Errorf("Run returned %v after its ctx ended", took)
		}
		senders.Wait()
	})
}
