package odoo

import (
	"context"
	"sync"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// sinceFresh is how long an answer of a since is good for all who ask. An age is that much
// more or less.
const sinceFresh = time.Second

// A since knows the highest id that is older than an age. However many ask, the database is
// asked one time at once and one time a second: when a server comes back all clients ask
// (TestHoweverManyAskTheDatabaseIsAskedOnce).
type since struct {
	age time.Duration
	ask func(ctx context.Context, age time.Duration) (bus.ID, error)

	mu   sync.Mutex // guards what follows
	last *sinceAnswer
}

// A sinceAnswer is one question to the database.
type sinceAnswer struct {
	done chan struct{} // closed when the rest is there
	at   time.Time     // when it was asked
	id   bus.ID
	err  error
}

// id returns the id. Error: bus.ErrUnavailable, ctx's.
func (s *since) id(ctx context.Context) (bus.ID, error) {
	s.mu.Lock()
	a := s.last
	mine := a == nil || a.over()
	if mine {
		a = &sinceAnswer{done: make(chan struct{}), at: time.Now()}
		s.last = a
	}
	s.mu.Unlock()
	if mine {
		// For all who ask meanwhile: it does not end with the first one's request, but
		// within the time that a read has.
		a.id, a.err = s.ask(context.WithoutCancel(ctx), s.age)
		close(a.done)
	}
	select {
	case <-a.done:
		return a.id, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// over says that the answer is no longer good. An error is, at once.
func (a *sinceAnswer) over() bool {
	select {
	case <-a.done:
		return a.err != nil || time.Since(a.at) >= sinceFresh
	default:
		return false
	}
}
