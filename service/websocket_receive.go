package service

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
)

// maxClientMessage bounds the bytes of a client's message, of all its fragments.
const maxClientMessage = 1 << 20

// receive is the goroutine that receives. It reads a frame for each turn that it is given,
// hands it to the owner, and interrupts the ride. When the turns end it waits for the end
// of the connection.
func (k *socket) receive() {
	defer close(k.received)
	for interrupt := range k.turns {
		f, readable := k.next()
		if f.ends != nil {
			k.closeWithin(closeTime) // the owner may be held up by what it writes
		}
		k.frames <- f // has room: the last one was taken
		interrupt()
		if !readable {
			k.discard(f.ends)
			return
		}
	}
	for {
		// What still comes says nothing to a socket that ends.
		if _, _, err := k.conn.NextReader(); err != nil {
			k.discard(err)
			return
		}
	}
}

// next reads one frame. Not readable is what comes behind it.
func (k *socket) next() (f clientFrame, readable bool) {
	var panicked error
	defer func() {
		if panicked != nil {
			f, readable = clientFrame{ends: panicked}, true
		}
	}()
	defer recovered(&panicked)
	kind, r, err := k.conn.NextReader()
	if err != nil {
		return k.unreadable(err), false
	}
	if kind != websocket.TextMessage {
		return clientFrame{err: bus.Invalid(bus.InvalidField, "message", "binary, must be text"), ends: &ending{websocket.CloseUnsupportedData}}, true
	}
	if err = k.conn.SetReadDeadline(time.Now().Add(k.opts.ReceiveTimeout)); err == nil {
		f, err = k.message(r)
	}
	if err == nil {
		err = k.conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return k.unreadable(err), false
	}
	return f, true
}

// unreadable returns the last frame of a connection that cannot be read any more.
func (k *socket) unreadable(err error) clientFrame {
	var (
		peer    *websocket.CloseError
		network net.Error
	)
	if errors.As(err, &peer) && peer.Code != websocket.CloseAbnormalClosure {
		return clientFrame{ends: peer}
	}
	k.closeWithin(brokenTime) // nobody hears the answer to a close frame
	switch {
	case errors.As(err, &network) && network.Timeout():
		return clientFrame{
			err:  bus.Invalid(bus.MalformedJSON, "", "the message did not arrive whole within %v", k.opts.ReceiveTimeout),
			ends: &ending{websocket.ClosePolicyViolation},
		}
	case errors.As(err, &peer), errors.As(err, &network), errors.Is(err, io.EOF):
		_ = k.conn.Close() // so that nobody waits until it is read
		return clientFrame{ends: errHungUp}
	case errors.Is(err, websocket.ErrReadLimit): // more than an int64
		return tooLarge()
	}
	return clientFrame{ends: errBroken} // the library has said so, by 1002
}

// discard reads on to the end of the connection: if it were closed with something unread,
// the network would drop what the client has not read yet. ended is why frames are read no
// more.
func (k *socket) discard(ended error) {
	var peer *websocket.CloseError
	if !errors.As(ended, &peer) { // else the client waits for the end
		_, _ = io.Copy(io.Discard, k.conn.NetConn())
	}
}

// message reads what is left of a message and what it says. Its bytes are counted as those
// of every request. Error: the connection's.
func (k *socket) message(r io.Reader) (clientFrame, error) {
	if !k.requests.take(1) {
		return k.skip(r, 0, k.errTooManyRequests())
	}
	in := &incoming{service: k.Service, held: true}
	defer in.release()
	var whole bytes.Buffer
	err := in.copy(&whole, io.LimitReader(r, maxClientMessage+1))
	var full *fault
	switch {
	case errors.As(err, &full):
		return k.skip(r, whole.Len(), full)
	case err != nil:
		return clientFrame{}, err
	case whole.Len() > maxClientMessage:
		return tooLarge(), nil
	case !utf8.Valid(whole.Bytes()):
		return clientFrame{
			err:  bus.Invalid(bus.MalformedJSON, "", "the message is not valid UTF-8"),
			ends: &ending{websocket.CloseInvalidFramePayloadData},
		}, nil
	}
	in.data = whole.Bytes()
	var f clientFrame
	err = k.hands.aside(func() error {
		return in.read(func(data []byte) error {
			f = k.readClientFrame(data)
			return nil
		})
	})
	return f, err
}

// skip reads over the rest of a message for which there is no room.
func (k *socket) skip(r io.Reader, read int, refused error) (clientFrame, error) {
	rest, err := io.Copy(io.Discard, io.LimitReader(r, int64(maxClientMessage+1-read)))
	if err != nil {
		return clientFrame{}, err
	}
	if read+int(rest) > maxClientMessage {
		return tooLarge(), nil
	}
	return clientFrame{err: refused}, nil
}

func tooLarge() clientFrame {
	return clientFrame{
		err:  bus.Invalid(bus.TooLarge, "message", "more than %d bytes, at most %[1]d", maxClientMessage),
		ends: &ending{websocket.CloseMessageTooBig},
	}
}

// pongs are the answers to pings that wait to be written: not by who receives, since a
// client that does not read could stop it in the middle of a message.
type pongs struct {
	mu      sync.Mutex // guards what follows
	waiting []string
	written bool // by somebody
}

// maxPongs bounds the pongs that wait. A client that has sent more pings gets those of the
// newest, as RFC 6455 allows.
const maxPongs = 16

func (k *socket) pinged(payload string) error {
	p := &k.pongs
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == maxPongs {
		p.waiting = p.waiting[1:]
	}
	p.waiting = append(p.waiting, payload)
	if !p.written {
		p.written = true
		go k.writePongs()
	}
	return nil
}

func (k *socket) writePongs() {
	for payload, ok := k.pongs.next(); ok; payload, ok = k.pongs.next() {
		// If it fails nobody waits for it: the connection has ended.
		_ = k.conn.WriteControl(websocket.PongMessage, []byte(payload), time.Time{})
	}
}

func (p *pongs) next() (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.waiting, p.written = nil, false
		return "", false
	}
	payload := p.waiting[0]
	p.waiting = p.waiting[1:]
	return payload, true
}
