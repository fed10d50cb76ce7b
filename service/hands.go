package service

import (
	"slices"
	"sync"
	"time"
)

// hands are goroutines that have done something deep before: their stacks have grown. A
// call has a new goroutine of gRPC's, and to grow its stack while it reads and checks a
// request costs more than the rest of it, a quarter of a busy node's CPU time. Who has
// worked last works next, so that there are no more than have work at once; who has had
// none for a while ends (TestIdleHandsEnd).
type hands struct {
	mu       sync.Mutex // guards what follows
	idle     []*hand    // who has worked last is the last
	sweeps   int
	sweeping bool // there will be a sweep
}

// handRest is how often it is looked for hands that have had nothing to do since the last
// time.
const handRest = 100 * time.Millisecond

// A hand waits for its work, or for the end of it, outside of what it is listed in.
type hand struct {
	work  chan task // capacity 1: who takes a hand from the list never waits
	since int       // sweeps when it became idle
}

// A task is a call and where its outcome is told, where there must be room.
type task struct {
	call  func() error
	ended chan<- outcome
}

// aside calls f on a hand, and waits: the caller's own stack stays small.
func (h *hands) aside(f func() error) error {
	ended := make(chan outcome, 1)
	h.begin(task{f, ended})
	return (<-ended).result()
}

// begin gives t to an idle hand or a new one.
func (h *hands) begin(t task) {
	h.mu.Lock()
	last := len(h.idle) - 1
	if last < 0 {
		h.mu.Unlock()
		go h.serve(t)
		return
	}
	next := h.idle[last]
	h.idle[last] = nil
	h.idle = h.idle[:last]
	h.mu.Unlock()
	next.work <- t
}

func (h *hands) serve(t task) {
	own := &hand{work: make(chan task, 1)}
	for more := true; more; t, more = <-own.work {
		o := t.perform()
		h.rest(own) // first, so that who is told finds a hand
		t.ended <- o
	}
}

func (h *hands) rest(own *hand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	own.since = h.sweeps
	h.idle = append(h.idle, own)
	if !h.sweeping {
		h.sweeping = true
		time.AfterFunc(handRest, h.sweep)
	}
}

// sweep ends the hands that have been idle since the last sweep.
func (h *hands) sweep() {
	h.mu.Lock()
	rested := 0
	for rested < len(h.idle) && h.idle[rested].since < h.sweeps {
		rested++
	}
	ended := slices.Clone(h.idle[:rested])
	h.idle = slices.Delete(h.idle, 0, rested)
	h.sweeps++
	if h.sweeping = len(h.idle) > 0; h.sweeping {
		time.AfterFunc(handRest, h.sweep)
	}
	h.mu.Unlock()
	for _, each := range ended {
		close(each.work)
	}
}

func (t task) perform() (o outcome) {
	defer func() { o.panicked = recover() }()
	o.err = t.call()
	return o
}

// An outcome is how a task has ended.
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
