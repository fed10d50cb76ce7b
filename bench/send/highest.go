//go:build unix

package send

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/bench/internal/rig"
)

// Highest returns how many messages a second go through servers, sent at from and received
// at to, when the callers of the main goals send one a call as fast as they can.
func Highest(ctx context.Context, from, to string, servers []int, postmaster int, length time.Duration) (rate float64, err error) {
	l := load{mainCallers, 1, length}
	receiving, err := rig.Dial(to)
	if err != nil {
		return 0, err
	}
	defer receiving.Close()
	channels := make([]string, l.callers)
	for i := range channels {
		channels[i] = fmt.Sprintf("bench-%d", i)
	}
	reading, stop := context.WithCancel(ctx)
	stream, err := rig.Subscribe(reading, receiving, channels...)
	if err != nil {
		stop()
		return 0, err
	}
	ended := make(chan struct{}) // closed when the stream has; then lost is set
	var lost error
	go func() {
		defer close(ended)
		for lost == nil {
			_, lost = stream.Recv()
		}
	}()
	s, err := l.calls(ctx, []string{from}, servers, postmaster)
	select {
	case <-ended:
		err = errors.Join(err, fmt.Errorf("the reader lost its stream: %w", lost))
	default:
	}
	stop()
	<-ended
	if err != nil {
		return 0, err
	}
	return s.Figures[0], nil
}
