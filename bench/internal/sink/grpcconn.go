//go:build unix

package sink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/postbus/postbus/bench/internal/rig"
)

const (
	frameHead  = 9
	frameLimit = 16 << 10 // SETTINGS_MAX_FRAME_SIZE, the default
	// roomyBuffer is the read buffer of a connection with many streams.
	roomyBuffer = 256 << 10
	// FirstWindow is every HTTP/2 connection's window until a WINDOW_UPDATE.
	FirstWindow = 1<<16 - 1
)

// A grpcConn is one connection of a sink, with the readers [from, to). Its streams have
// the odd numbers from 1 on, in the readers' order.
type grpcConn struct {
	sink     *Sink
	from, to int
	conn     net.Conn
	in       *bufio.Reader
	headers  *hpack.Decoder
	ended    map[string]string // the trailers of a stream that has ended
	unopened int               // streams without a first response
	opened   chan error        // one slot: the first responses of all streams, or why not
	closed   chan struct{}     // closed when the reading goroutine has ended
	closing  chan struct{}     // closed by close

	mu      sync.Mutex // guards what follows, and unasked of the readers
	out     *http2.Framer
	unasked int  // bytes that no WINDOW_UPDATE has given back
	stalled bool // give nothing back
}

// open connects the readers [from, to) and returns when each has its first response.
func (s *Sink) open(ctx context.Context, from, to int) (*grpcConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.plan.Target)
	if err != nil {
		return nil, err
	}
	size := frameHead + frameLimit
	if to-from > 1 {
		size = roomyBuffer
	}
	c := &grpcConn{
		sink: s, from: from, to: to,
		conn: conn, in: bufio.NewReaderSize(conn, size), out: http2.NewFramer(conn, nil),
		unopened: to - from,
		opened:   make(chan error, 1), closed: make(chan struct{}), closing: make(chan struct{}),
		ended: map[string]string{},
	}
	c.headers = hpack.NewDecoder(4096, func(f hpack.HeaderField) { c.ended[f.Name] = f.Value })
	err = c.greet() // first of all: the server's settings are acknowledged behind it
	go c.run()
	if err == nil {
		err = c.request()
	}
	if err != nil {
		return c, err
	}
	select {
	case err := <-c.opened:
		return c, err
	case <-time.After(rig.OpenPatience):
		return c, fmt.Errorf("streams %d to %d have not opened within %s", from, to, rig.OpenPatience)
	case <-ctx.Done():
		return c, ctx.Err()
	}
}

// greet writes the connection's preface and settings.
func (c *grpcConn) greet() error {
	window := uint32(c.sink.plan.Window)
	return c.write(func(out *http2.Framer) error {
		if _, err := io.WriteString(c.conn, http2.ClientPreface); err != nil {
			return err
		}
		if err := out.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
			return err
		}
		if window <= FirstWindow {
			return nil
		}
		return out.WriteWindowUpdate(0, window-FirstWindow)
	})
}

// request opens the streams.
func (c *grpcConn) request() error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := range c.to - c.from {
		body, err := c.sink.request(c.from + i)
		if err != nil {
			return err
		}
		block.Reset()
		for _, f := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", "/postbus.v1.BusService/Subscribe"}, {":authority", c.sink.plan.Target},
			{"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				return err
			}
		}
		id := uint32(2*i + 1)
		err = c.write(func(out *http2.Framer) error {
			if err := out.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
				return err
			}
			return out.WriteData(id, true, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *grpcConn) write(f func(*http2.Framer) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f(c.out)
}

// run reads until the connection ends.
func (c *grpcConn) run() {
	defer close(c.closed)
	err := c.read()
	select {
	case <-c.closing:
	default:
		err = fmt.Errorf("readers %d to %d: %w", c.from, c.to, err)
		if c.unopened > 0 {
			c.opened <- err
		}
		c.sink.fail(err)
	}
}

func (c *grpcConn) read() error {
	counted := 0
	for {
		head, err := c.in.Peek(frameHead)
		if err != nil {
			return err
		}
		size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if size > frameLimit {
			return fmt.Errorf("a frame of %d bytes", size)
		}
		frame, err := c.in.Peek(frameHead + size)
		if err != nil {
			return err
		}
		n, err := c.frame(http2.FrameType(frame[3]), http2.Flags(frame[4]), binary.BigEndian.Uint32(frame[5:]), frame[frameHead:])
		if err != nil {
			return err
		}
		counted += n
		if _, err := c.in.Discard(frameHead + size); err != nil {
			return err
		}
		if counted > 0 && c.in.Buffered() == 0 {
			c.sink.add(int64(counted))
			counted = 0
		}
	}
}

// frame handles one frame and returns how many notifications it has brought.
func (c *grpcConn) frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) (int, error) {
	switch kind {
	case http2.FrameData:
		return c.data(stream, payload)
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			return 0, c.write(func(out *http2.Framer) error { return out.WritePing(true, [8]byte(payload)) })
		}
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			return 0, c.write(func(out *http2.Framer) error { return out.WriteSettingsAck() })
		}
	case http2.FrameHeaders:
		clear(c.ended)
		if _, err := c.headers.Write(payload); err != nil { // grpc-go pads nothing and has no priorities
			return 0, err
		}
		if flags.Has(http2.FlagHeadersEndStream) {
			return 0, fmt.Errorf("stream %d ended: %v", stream, c.ended)
		}
	case http2.FrameRSTStream, http2.FrameGoAway:
		return 0, fmt.Errorf("%v of stream %d", kind, stream)
	}
	return 0, nil
}

// data hands the payload to its reader.
func (c *grpcConn) data(stream uint32, payload []byte) (int, error) {
	i := int(stream-1) / 2
	if stream%2 == 0 || i >= c.to-c.from {
		return 0, fmt.Errorf("stream %d was not opened", stream)
	}
	r := &c.sink.readers[c.from+i]
	fresh := r.responses == 0
	n, err := r.take(payload)
	if err != nil {
		return n, fmt.Errorf("reader %d: %w", c.from+i, err)
	}
	if n > 0 && c.sink.arrived != nil {
		c.sink.arrived(c.from+i, n)
	}
	if fresh && r.responses > 0 {
		if c.unopened--; c.unopened == 0 {
			c.opened <- nil
		}
	}
	return n, c.write(func(out *http2.Framer) error {
		r.unasked += len(payload)
		c.unasked += len(payload)
		return errors.Join(c.giveBack(out, stream, &r.unasked, c.sink.plan.Window), c.giveBack(out, 0, &c.unasked, max(c.sink.plan.Window, FirstWindow)))
	})
}

// giveBack lets the server send as many bytes as were read, once they are half a window.
func (c *grpcConn) giveBack(out *http2.Framer, stream uint32, unasked *int, window int) error {
	if c.stalled || *unasked < window/2 {
		return nil
	}
	size := *unasked
	*unasked = 0
	return out.WriteWindowUpdate(stream, uint32(size))
}

// stall ends or begins to give window back. Pings are answered all the same.
func (c *grpcConn) stall(stalled bool) error {
	return c.write(func(out *http2.Framer) error {
		c.stalled = stalled
		var all []error
		for i := range c.to - c.from {
			all = append(all, c.giveBack(out, uint32(2*i+1), &c.sink.readers[c.from+i].unasked, c.sink.plan.Window))
		}
		return errors.Join(append(all, c.giveBack(out, 0, &c.unasked, max(c.sink.plan.Window, FirstWindow)))...)
	})
}

// close ends the connection and waits for its goroutine.
func (c *grpcConn) close() error {
	close(c.closing)
	err := c.conn.Close()
	<-c.closed
	return err
}
