package service

import (
	"context"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// sockets are the WebSockets that are open. A server that shuts down does not know their
// connections.
type sockets struct {
	upgrader websocket.Upgrader

	mu   sync.Mutex // guards what follows
	open map[*websocket.Conn]struct{}
	none chan struct{} // closed when none is open; nil: nobody waits
}

// readBuffer is what an idle socket keeps for reading: a frame's header and a small frame.
const readBuffer = 512

func newSockets() *sockets {
	return &sockets{
		open: make(map[*websocket.Conn]struct{}),
		upgrader: websocket.Upgrader{
			HandshakeTimeout: handshakeTime,
			ReadBufferSize:   readBuffer,
			WriteBufferPool:  new(sync.Pool), // an idle socket keeps none
			Subprotocols:     []string{socketProtocol},
			CheckOrigin:      func(*http.Request) bool { return true }, // the gate has
			Error:            func(http.ResponseWriter, *http.Request, int, error) {},
			// Not compressed: a batch is framed once for all who are given it, and to
			// keep a compressor for each socket costs more than all the rest of it.
			EnableCompression: false,
		},
	}
}

func (all *sockets) add(conn *websocket.Conn) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.open[conn] = struct{}{}
}

func (all *sockets) remove(conn *websocket.Conn) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.open, conn)
	if all.none != nil && len(all.open) == 0 {
		close(all.none)
		all.none = nil
	}
}

// WaitSockets waits until every WebSocket has ended, behind Drain of the Service and of
// its Dispatcher. Those that have not when ctx ends are closed
// (TestStalledSocketIsClosedWhenTheTimeToDrainIsOver). Error: ctx's.
func (s *Service) WaitSockets(ctx context.Context) error {
	none := s.sockets.wait()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
	}
	s.sockets.close()
	return ctx.Err()
}

func (all *sockets) wait() <-chan struct{} {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.none == nil {
		all.none = make(chan struct{})
	}
	none := all.none
	if len(all.open) == 0 {
		close(none)
		all.none = nil
	}
	return none
}

func (all *sockets) close() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for conn := range all.open {
		_ = conn.Close() // its goroutines see that it has ended
	}
}
