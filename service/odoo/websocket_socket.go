package odoo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
)

const (
	// messageTime is how long a client's message may take to come whole.
	messageTime = 30 * time.Second
	// farewellTime is how long a close frame may take to go out, and then how long the
	// client's own is waited for.
	farewellTime = 2 * time.Second
)

// An ending is why a socket ends: what its close frame says. Without a code there is no
// such frame.
type ending struct {
	code   int
	reason string
}

func (e ending) Error() string { return fmt.Sprintf("websocket: end with %d %s", e.code, e.reason) }

var (
	dropped = ending{}
	noUTF8  = ending{code: websocket.CloseInvalidFramePayloadData}
	leaving = ending{code: websocket.CloseGoingAway}
	broken  = ending{code: websocket.CloseInternalServerErr}
)

// A socket is one connection of a client. One goroutine reads it (run), and, once the
// client has subscribed, one walks the bus for it (walk.go). It ends once, for the first
// reason that there is.
type socket struct {
	*Handler
	conn  *websocket.Conn
	ctx   context.Context // of the walks; ended by end
	stop  context.CancelFunc
	alive alive
	pace  pace // the reader's
	walk  *walk
	at    position

	mu     sync.Mutex // guards what follows, and the deadline of reads
	ended  bool
	ending ending
}

func newSocket(h *Handler) *socket {
	s := &socket{Handler: h}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// run serves an open connection to its end. One that is not welcome is told so at once.
func (s *socket) run(conn *websocket.Conn, welcome bool) {
	defer s.sockets.Remove(s)
	s.open(conn)
	leave, err := s.core.Enter()
	switch {
	case err != nil:
		s.end(s.walkEnding(err))
	case !welcome:
		defer leave()
		s.end(outdated)
	default:
		defer leave()
		s.alive.start(s)
		defer s.alive.stop()
		s.end(s.readEnding(s.read()))
	}
	s.close()
}

// open makes conn the socket's, which may have been ended meanwhile.
func (s *socket) open(conn *websocket.Conn) {
	conn.SetReadLimit(maxMessage)
	conn.SetPingHandler(func(text string) error {
		if err := s.frame(); err != nil {
			return err
		}
		// Nothing waits behind a client that does not read its pongs.
		_ = conn.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(pongTime))
		return nil
	})
	conn.SetPongHandler(func(string) error { return s.frame() })
	conn.SetCloseHandler(func(int, string) error { return nil }) // close answers
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	if s.ended {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// frame notes a frame of the client.
func (s *socket) frame() error {
	s.alive.hear()
	return s.pace.count()
}

// read reads the client's messages until the socket ends.
func (s *socket) read() (err error) {
	defer recovered(&err)
	for {
		kind, from, err := s.conn.NextReader()
		if err != nil {
			return err
		}
		if err := s.frame(); err != nil {
			return err
		}
		if err := s.message(kind, from); err != nil {
			return err
		}
	}
}

// message reads one message and does what it says.
func (s *socket) message(kind int, from io.Reader) error {
	in := arrival{core: s.core}
	defer in.release()
	s.expectBy(time.Now().Add(messageTime))
	data, err := in.read(from)
	if err != nil {
		return err
	}
	s.expectBy(time.Time{})
	s.alive.hear()
	switch {
	case !utf8.Valid(data) && kind == websocket.TextMessage:
		return noUTF8
	case kind == websocket.BinaryMessage && len(data) == 1 && data[0] == 0:
		return nil // a late client of 18 asks whether the connection lives
	}
	asked, err := readFrame(data)
	if err == nil && asked != nil {
		err = s.core.CheckChannels(asked.channels)
	}
	if err != nil {
		s.log.LogAttrs(s.ctx, slog.LevelDebug, "a frame of Odoo's protocol was ignored", slog.Any("error", err))
		return nil
	}
	if asked != nil {
		s.subscribe(*asked)
	}
	return nil
}

// expectBy sets the deadline of reads; the end of the socket has set the last one.
func (s *socket) expectBy(deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		_ = s.conn.SetReadDeadline(deadline)
	}
}

// end ends the socket: again is nothing. close says goodbye, on the reader's goroutine,
// which this wakes.
func (s *socket) end(e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended, s.ending = true, e
	s.stop()
	switch {
	case s.conn == nil: // open will see it
	case e == dropped:
		_ = s.conn.Close()
	default:
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// readEnding returns the end that reading makes. Of a breach of the protocol the library has
// told the client already, in its own words.
func (s *socket) readEnding(err error) ending {
	var (
		known   ending
		closed  *websocket.CloseError
		network net.Error
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &closed):
		switch closed.Code {
		case websocket.CloseNoStatusReceived:
			return ending{code: websocket.CloseNormalClosure}
		case websocket.CloseAbnormalClosure:
			return dropped
		}
		return ending{closed.Code, closed.Text} // as it came
	case errors.Is(err, websocket.ErrReadLimit):
		return ending{code: websocket.CloseMessageTooBig}
	case errors.As(err, &network), errors.Is(err, io.ErrClosedPipe):
		return dropped
	case errors.Is(err, errBroken):
		return s.fail(err)
	}
	return ending{code: websocket.CloseProtocolError}
}

// walkEnding returns the end that a walk makes, or that the bus has refused one.
func (s *socket) walkEnding(err error) ending {
	switch {
	case errors.Is(err, bus.ErrDraining):
		return leaving
	case errors.Is(err, bus.ErrUnavailable), errors.Is(err, bus.ErrTooManyReaders):
		s.core.Fault(context.Background(), webSocketPath, err)
		return overloaded
	case errors.Is(err, context.Canceled):
		return dropped // the client does not take what it is given
	}
	return s.fail(err)
}

// fail tells the operator of an error that is the server's own.
func (s *socket) fail(err error) ending {
	s.core.Fault(context.Background(), webSocketPath, err)
	return broken
}

// close says goodbye and waits for all that the socket has started. The client may still
// be sending: its connection is first closed for writing, so that it can read the frame.
func (s *socket) close() {
	if e := s.ending; e != dropped {
		_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(e.code, e.reason), time.Now().Add(farewellTime))
		conn := s.conn.NetConn()
		if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_ = conn.SetReadDeadline(time.Now().Add(farewellTime))
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	_ = s.conn.Close()
	if s.walk != nil {
		<-s.walk.done
	}
	s.log.LogAttrs(context.Background(), slog.LevelDebug, "a socket of Odoo's protocol has ended",
		slog.Int("code", s.ending.code), slog.String("reason", s.ending.reason))
}

// errBroken is the end of a goroutine that panicked.
var errBroken = errors.New("the socket's goroutine panicked")

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v\n%s", errBroken, p, debug.Stack())
	}
}
