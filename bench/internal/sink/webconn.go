//go:build unix

package sink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/bench/internal/rig"
)

// The ways of a sink beside gRPC.
const (
	Polls   = "long-poll"
	Events  = "SSE"
	Sockets = "WebSocket"
)

const (
	pollPath      = "/v1/poll?"
	subscribePath = "/v1/subscribe?"
	eventStream   = "text/event-stream"
)

// webBuffer holds the largest answer of a fan-out, so that it is read in one call.
const webBuffer = 16 << 10

// A webConn is one reader's connection: HTTP/1.1, or a WebSocket.
type webConn struct {
	sink    *Sink
	number  int
	conn    net.Conn
	read    func() (notifications int, err error) // what comes next, of one answer, event or message
	closed  chan struct{}                         // closed when the reading goroutine has ended
	closing chan struct{}                         // closed by close
}

// openWeb connects a reader and returns when it has its first position: from then on it
// misses nothing.
func (s *Sink) openWeb(ctx context.Context, number int) (*webConn, error) {
	conn, err := (&net.Dialer{Timeout: rig.OpenPatience}).DialContext(ctx, "tcp", s.plan.Target)
	if err != nil {
		return nil, err
	}
	c := &webConn{sink: s, number: number, conn: conn, closed: make(chan struct{}), closing: make(chan struct{})}
	if err = conn.SetReadDeadline(time.Now().Add(rig.OpenPatience)); err == nil {
		err = c.begin(ctx)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return nil, fmt.Errorf("reader %d: %w", number, errors.Join(err, conn.Close()))
	}
	go c.run()
	return c, nil
}

// begin makes the first request and reads the first position.
func (c *webConn) begin(ctx context.Context) error {
	channels := "channels=" + c.sink.plan.channel(c.number)
	if c.sink.plan.Heartbeat > 0 && c.sink.plan.Over != Polls {
		channels += fmt.Sprintf("&heartbeat=%gs", c.sink.plan.Heartbeat.Seconds())
	}
	switch c.sink.plan.Over {
	case Polls:
		return c.beginPolls(channels)
	case Events:
		return c.beginEvents(channels)
	}
	return c.beginSocket(ctx, channels)
}

// run reads until the connection ends.
func (c *webConn) run() {
	defer close(c.closed)
	for {
		n, err := c.read()
		if err != nil {
			select {
			case <-c.closing:
			default:
				c.sink.fail(fmt.Errorf("reader %d: %w", c.number, err))
			}
			return
		}
		if n > 0 {
			if c.sink.arrived != nil {
				c.sink.arrived(c.number, n)
			}
			c.sink.add(int64(n))
		}
	}
}

// close ends the connection and waits for its goroutine.
func (c *webConn) close() error {
	close(c.closing)
	err := c.conn.Close()
	<-c.closed
	return err
}

func (c *webConn) reader() *reader { return &c.sink.readers[c.number] }

func (c *webConn) get(target, accept string) error {
	_, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n\r\n", target, c.sink.plan.Target, accept)
	return err
}

// beginPolls asks where the end is. Every other request asks for what is behind the last.
func (c *webConn) beginPolls(channels string) error {
	in, whole := bufio.NewReaderSize(c.conn, webBuffer), new(bytes.Buffer)
	r := c.reader()
	take := func() (int, error) {
		response, err := Answered(in)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		whole.Reset()
		if _, err := whole.ReadFrom(response.Body); err != nil {
			return 0, err
		}
		return r.takeJSON(whole.Bytes())
	}
	ask := func() error {
		return c.get(fmt.Sprintf("%stimeout=50s&%s&after=%d", pollPath, channels, r.last), "application/json")
	}
	// It asks before it tells of what has come, so that who sends next finds it waiting.
	c.read = func() (int, error) {
		n, err := take()
		if err == nil {
			err = ask()
		}
		return n, err
	}
	err := c.get(pollPath+"timeout=0s&"+channels, "application/json")
	if err == nil {
		_, err = take()
	}
	if err == nil {
		err = ask()
	}
	return err
}

func (c *webConn) beginEvents(channels string) error {
	if err := c.get(subscribePath+channels, eventStream); err != nil {
		return err
	}
	response, err := Answered(bufio.NewReaderSize(c.conn, 1<<10)) //nolint:bodyclose // it is as long as the connection
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(response.Body, webBuffer)
	c.read = func() (int, error) { return c.reader().takeEvents(in) }
	_, err = c.read()
	return err
}

func (c *webConn) beginSocket(ctx context.Context, channels string) error {
	dialer := websocket.Dialer{
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return c.conn, nil },
		ReadBufferSize: webBuffer,
	}
	socket, response, err := dialer.DialContext(ctx, "ws://"+c.sink.plan.Target+subscribePath+channels, nil)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // has nothing
	whole := new(bytes.Buffer)
	c.read = func() (int, error) {
		_, message, err := socket.NextReader()
		if err != nil {
			return 0, err
		}
		whole.Reset()
		if _, err := whole.ReadFrom(message); err != nil {
			return 0, err
		}
		return c.reader().takeJSON(whole.Bytes())
	}
	_, err = c.read()
	return err
}

// Answered reads the head of an answer, which must be 200.
func Answered(in *bufio.Reader) (*http.Response, error) {
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode == http.StatusOK {
		return response, err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // what there is of it
	return nil, fmt.Errorf("%s: %s", response.Status, text)
}
