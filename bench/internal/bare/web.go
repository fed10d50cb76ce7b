//go:build unix

package bare

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/bench/internal/rig"
)

// A web is what net/http and a bare WebSocket server can do at best: handlers that
// write prepared bytes, the same for all. It knows two ways to give them to streams,
// strict and plain, as a fanout does; a poll is answered by its own handler.
type web struct {
	press    webPress
	upgrader websocket.Upgrader
	loops    *loops[webBurst]

	mu        sync.Mutex // guards what follows
	streams   map[*webStream]struct{}
	entered   int
	published webBurst      // the newest
	renewed   chan struct{} // closed when published changes
}

// A webStream is one open stream.
type webStream struct {
	write func(webBurst) error

	mu    sync.Mutex    // held while it is written
	ended bool          // its handler has returned
	plain chan webBurst // of the plain way: its own goroutine writes
}

// newWeb returns one whose loops run until they are ended.
func newWeb() (*web, error) {
	b := &web{
		press:   newWebPress(),
		streams: map[*webStream]struct{}{},
		renewed: make(chan struct{}),
		upgrader: websocket.Upgrader{
			ReadBufferSize: 512, WriteBufferPool: new(sync.Pool),
			CheckOrigin: func(*http.Request) bool { return true },
		},
	}
	var err error
	if b.published, err = b.press.burst(0); err != nil {
		return nil, err
	}
	b.loops = startLoops[webBurst]()
	return b, nil
}

func (s *webStream) put(burst webBurst) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return net.ErrClosed
	}
	return s.write(burst)
}

// begin writes what comes before the first burst.
func (s *webStream) begin(write func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return write()
}

// enter makes a stream known.
func (b *web) enter(write func(webBurst) error) *webStream {
	s := &webStream{write: write, plain: make(chan webBurst, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams[s] = struct{}{}
	b.loops.nth(b.entered).enter(s.put)
	b.entered++
	return s
}

// serve writes what comes in the plain way, until done.
func (b *web) serve(s *webStream, done <-chan struct{}) {
	defer func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		b.mu.Lock()
		delete(b.streams, s)
		b.mu.Unlock()
	}()
	for {
		select {
		case burst := <-s.plain:
			if s.put(burst) != nil {
				return
			}
		case <-done:
			return
		}
	}
}

// send gives the next count notifications to all.
func (b *web) send(way string, count int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	burst, err := b.press.burst(count)
	switch {
	case err != nil:
		return err
	case way == Parked:
		b.published = burst
		close(b.renewed)
		b.renewed = make(chan struct{})
	case way == Strict:
		b.loops.send(burst)
	case way == Plain:
		for s := range b.streams {
			s.plain <- burst // has room: all have got the one before
		}
	default:
		return fmt.Errorf("%q: no such way to send", way)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (b *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Origin")
	switch {
	case r.URL.Path == "/v1/poll":
		b.poll(w, r)
	case websocket.IsWebSocketUpgrade(r):
		b.socket(w, r)
	default:
		b.events(w, r)
	}
}

// poll parks a request until there is something behind what it asks for. One with timeout
// 0s is told where the end is.
func (b *web) poll(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	after, err := strconv.ParseInt(query.Get("after"), 10, 64)
	if err != nil && query.Get("timeout") != "0s" {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	published, renewed := b.published, b.renewed
	b.mu.Unlock()
	if published.last == after {
		select {
		case <-renewed:
		case <-r.Context().Done():
			return
		}
		b.mu.Lock()
		published = b.published
		b.mu.Unlock()
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(published.answer)))
	_, _ = w.Write(published.answer) // the sink sees it if it fails
}

func (b *web) events(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	write := func(text []byte) error {
		if _, err := w.Write(text); err != nil {
			return err
		}
		return control.Flush()
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Add("Vary", "Accept")
	s := b.enter(func(burst webBurst) error { return write(burst.events) })
	position := []byte("event: position\nid: 0\ndata: {\"last\":0}\n\n") // the sink waits for it: nothing is sent yet
	if s.begin(func() error { return write(position) }) == nil {
		b.serve(s, r.Context().Done())
	}
}

func (b *web) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := b.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // who was to be told has been told
	}
	s := b.enter(func(burst webBurst) error { return conn.WritePreparedMessage(burst.message) })
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	go func() { // net/http's own goroutine would keep what it has for a request
		defer conn.Close()
		position := []byte(`{"notifications":[],"last":0}`)
		if s.begin(func() error { return conn.WriteMessage(websocket.TextMessage, position) }) == nil {
			b.serve(s, ctx.Done())
		}
	}()
	go func() {
		defer cancel()
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}()
}

// playWeb serves a web. Each line that it reads, the way and a number, makes it
// send so many messages to all.
func playWeb(_ context.Context, _ []string, in io.Reader, out io.Writer) error {
	b, err := newWeb()
	if err != nil {
		return err
	}
	defer b.loops.end()
	server := &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute} // as service.HTTPServer has
	return rig.ServeHTTP(server, in, out, func(line string) error {
		way, count, err := parseOrder(line)
		if err != nil {
			return err
		}
		return b.send(way, count)
	})
}
