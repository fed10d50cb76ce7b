package service_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A client of a long-poll that does not read its answer keeps the courier that writes it, and
// delays nobody; it is let go when its request ends.
func TestStalledLongPollDelaysNobody(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	stalled := &stalledWriter{header: http.Header{}, writing: make(chan struct{}), bounded: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/poll?channels=c&timeout=50s", nil)
		n.service.HTTPHandler().ServeHTTP(stalled, r)
	}()
	brisk := make([]*rawPoll, 16) // so that each courier has some
	for i := range brisk {
		brisk[i] = n.rawPoll(t)
		brisk[i].ask("")
	}
	until(t, "all wait", func() bool { return n.service.Stats().OpenPolls == int64(len(brisk)+1) })
	for range 3 {
		sent := n.send(t, jsonMessage("c", "1"))
		for _, p := range brisk {
			must(t, p.conn.SetReadDeadline(time.Now().Add(20*time.Second)))
			if id := p.answer(t); id != sent {
				t.Fatalf("answered %d, want %d", id, sent)
			}
			p.ask("")
		}
		until(t, "the others wait again", func() bool { return n.service.Stats().OpenPolls == int64(len(brisk)) })
	}
	for _, what := range []chan struct{}{stalled.writing, ended} {
		select {
		case <-what:
		case <-short(t).Done():
			t.Fatal("the stalled poll is not written, or not let go")
		}
		leave()
	}
}

// A stalledWriter takes nothing until its writes are bounded in time.
type stalledWriter struct {
	header           http.Header
	writing, bounded chan struct{}
	once, onceMore   sync.Once
}

func (w *stalledWriter) Header() http.Header { return w.header }
func (w *stalledWriter) WriteHeader(int)     {}
func (w *stalledWriter) FlushError() error   { return nil }

func (w *stalledWriter) Write([]byte) (int, error) {
	w.once.Do(func() { close(w.writing) })
	<-w.bounded
	return 0, os.ErrDeadlineExceeded
}

func (w *stalledWriter) SetWriteDeadline(deadline time.Time) error {
	if !deadline.IsZero() {
		w.onceMore.Do(func() { close(w.bounded) })
	}
	return nil
}
