package odoo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

func TestHoweverManyAskTheDatabaseIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		broken := errors.New("broken")
		var fault error
		s := &since{age: 50 * time.Second, ask: func(ctx context.Context, age time.Duration) (bus.ID, error) {
			if age != 50*time.Second {
				t.Errorf("asked for %v", age)
			}
			n := asked.Add(1)
			time.Sleep(100 * time.Millisecond) // what the database takes
			return bus.ID(n), errors.Join(fault, ctx.Err())
		}}
		all := func(want bus.ID, wantErr error) {
			t.Helper()
			var wait sync.WaitGroup
			for i := range 100 {
				wait.Go(func() {
					ctx := t.Context()
					if i < 10 { // these do not wait for it
						gone, cancel := context.WithTimeout(ctx, time.Millisecond)
						defer cancel()
						_, _ = s.id(gone)
						return
					}
					if id, err := s.id(ctx); id != want && err == nil || !errors.Is(err, wantErr) {
						t.Errorf("%d, %v; want %d, %v", id, err, want, wantErr)
					}
				})
			}
			wait.Wait()
		}
		all(1, nil)
		all(1, nil) // of the same second
		time.Sleep(time.Second)
		fault = broken
		all(2, broken)
		fault = nil
		all(3, nil) // an error is not kept
		if n := asked.Load(); n != 3 {
			t.Errorf("the database was asked %d times", n)
		}
	})
}
