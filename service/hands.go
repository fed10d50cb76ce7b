package service

import "time"

// hands are goroutines that have done something deep before: their stacks have grown. A
// call has a new goroutine of gRPC's, and to grow its stack while it reads and checks a
// request costs more than the rest of it, a quarter of a busy node's CPU time.
type hands struct{ work chan func() }

// handRest is how long a hand waits for more to do.
const handRest = 100 * time.Millisecond

func newHands() hands { return hands{make(chan func())} }

// do calls f, on an idle hand or a new one.
func (h hands) do(f func()) {
	select {
	case h.work <- f:
	default:
		go h.serve(f)
	}
}

func (h hands) serve(f func()) {
	rest := time.NewTimer(handRest)
	defer rest.Stop()
	for {
		f()
		rest.Reset(handRest)
		select {
		case f = <-h.work:
		case <-rest.C:
			return
		}
	}
}

// aside calls f on a hand, and waits: the caller's own stack stays small. A panic of f is
// the caller's.
func (h hands) aside(f func() error) error {
	type outcome struct {
		err      error
		panicked any
	}
	ended := make(chan outcome, 1)
	h.do(func() {
		var o outcome
		defer func() {
			o.panicked = recover()
			ended <- o
		}()
		o.err = f()
	})
	o := <-ended
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}
