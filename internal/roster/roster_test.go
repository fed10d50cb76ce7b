package roster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestWaitEndsWhenTheLastHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Roster[int]
		if err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Add(1)
		r.Add(2)
		ended := make(chan error, 2)
		for range cap(ended) {
			go func() { ended <- r.Wait(t.Context()) }()
		}
		r.Remove(1)
		r.Remove(1)
		synctest.Wait()
		if len(ended) > 0 {
			t.Fatal("the wait ended while somebody was there")
		}
		r.Close()
		if r.Add(3) {
			t.Error("somebody was let in behind Close")
		}
		if all := r.All(); len(all) != 1 || all[0] != 2 {
			t.Errorf("there are %v", all)
		}
		r.Remove(2)
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	var r Roster[string]
	r.Add("stays")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
