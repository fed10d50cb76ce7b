package client

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestWaitsAreJitteredAndBounded(t *testing.T) {
	d := delay{first: 200 * time.Millisecond, most: 30 * time.Second}
	bound := d.first
	for range 20 {
		if wait := d.after(errors.New("x")); wait <= 0 || wait > bound {
			t.Errorf("waits %v, want at most %v", wait, bound)
		}
		bound = min(2*bound, d.most)
	}
	for range 100 {
		if wait := d.after(told(t, codes.Unavailable, time.Hour)); wait < maxRetryInfo || wait > maxRetryInfo+d.most {
			t.Errorf("waits %v when asked for an hour", wait)
		}
	}
	d.reset()
	if wait := d.after(errors.New("x")); wait > d.first {
		t.Errorf("waits %v after a good stream", wait)
	}
}
