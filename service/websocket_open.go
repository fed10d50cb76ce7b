package service

import (
	"context"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/roster"
)

// sockets are the WebSockets that are open. A server that shuts down does not know their
// connections.
type sockets struct {
	upgrader websocket.Upgrader
	open     roster.Roster[*websocket.Conn]
}

// readBuffer is what an idle socket keeps for reading: a frame's header and a small frame.
const readBuffer = 512

func newSockets() *sockets {
	return &sockets{
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

// WaitSockets waits until every WebSocket has ended, behind Drain of the Service and of
// its Dispatcher. Those of /v1/subscribe that have not when ctx ends are closed
// (TestStalledSocketIsClosedWhenTheTimeToDrainIsOver). Error: ctx's.
func (s *Service) WaitSockets(ctx context.Context) error {
	ended := s.odoo.Wait(ctx)
	if err := s.sockets.open.Wait(ctx); err != nil {
		for _, conn := range s.sockets.open.All() {
			_ = conn.Close() // its goroutines see that it has ended
		}
		return err
	}
	return ended
}
