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

// aside calls f on a hand, and waits: the caller's own stack stays small.
func (h hands) aside(f func() error) error {
	ended := make(chan outcome, 1)
	h.begin(f, ended)
	return (<-ended).result()
}

// begin calls f on a hand, which tells ended, where there must be room.
func (h hands) begin(f func() error, ended chan<- outcome) {
	h.do(func() {
		var o outcome
		defer func() {
			o.panicked = recover()
			ended <- o
		}()
		o.err = f()
	})
}

// An outcome is how a function has ended.
type outcome struct {
	err      error
	panicked any
}

// result returns the error. A panic becomes the caller's.
func (o outcome) result() error {
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}
