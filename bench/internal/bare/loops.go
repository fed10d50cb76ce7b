//go:build unix

package bare

import (
	"runtime"
	"sync"
)

// The loops of a bare server send each burst to all streams: as many loops as cores, each
// to a share of the streams, in turn.
type loops[B any] struct {
	all     []*loop[B]
	running sync.WaitGroup
}

// A loop is one of them.
type loop[B any] struct {
	bursts  chan B
	mu      sync.Mutex // guards streams
	streams []func(B) error
}

// startLoops starts a loop for each core.
func startLoops[B any]() *loops[B] {
	l := &loops[B]{}
	for range runtime.GOMAXPROCS(0) {
		one := &loop[B]{bursts: make(chan B, 1)}
		l.all = append(l.all, one)
		l.running.Go(one.run)
	}
	return l
}

// nth returns the loop for the n-th of what is spread over the loops.
func (l *loops[B]) nth(n int) *loop[B] { return l.all[n%len(l.all)] }

// send gives burst to all loops.
func (l *loops[B]) send(burst B) {
	for _, one := range l.all {
		one.bursts <- burst
	}
}

// end ends the loops and waits for them.
func (l *loops[B]) end() {
	for _, one := range l.all {
		close(one.bursts)
	}
	l.running.Wait()
}

// enter adds a stream to the loop.
func (l *loop[B]) enter(send func(B) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams = append(l.streams, send)
}

func (l *loop[B]) run() {
	for burst := range l.bursts {
		l.mu.Lock()
		streams := l.streams
		l.mu.Unlock()
		for _, send := range streams {
			_ = send(burst) // a stream that has ended is missed by the sink
		}
	}
}
