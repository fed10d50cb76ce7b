package service

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestIdleHandsEnd: there are as many hands as have work at once, however many calls there
// are, and those that have had none for a while end.
func TestIdleHandsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hands
		hands := func(want int) {
			t.Helper()
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			if got := len(h.idle); got != want {
				t.Errorf("%d hands, want %d", got, want)
			}
		}
		work := func() error { time.Sleep(time.Millisecond); return nil }
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { _ = h.aside(work) })
		}
		all.Wait()
		hands(50)
		for range 1000 {
			_ = h.aside(work)
		}
		hands(1) // in a second of calls, one after the other
		time.Sleep(2 * handRest)
		hands(0)
		_ = h.aside(work)
		hands(1)
		time.Sleep(2 * handRest)
		hands(0)
	})
}

// TestPanicOnAHandIsItsCallers, and the hand goes on.
func TestPanicOnAHandIsItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hands
		for range 2 {
			func() {
				defer func() {
					if p := recover(); p != "secret" {
						t.Errorf("%v, want the panic", p)
					}
				}()
				_ = h.aside(func() error { panic("secret") })
			}()
		}
		time.Sleep(2 * handRest) // it was idle, or would not end
	})
}
