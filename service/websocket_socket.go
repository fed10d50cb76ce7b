package service

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/jsonform"
)

// A socket is one open WebSocket. Its owner's goroutine gives it what comes; another one
// receives the client's frames, each when the one before is answered. A change of channels
// ends the present Subscription and begins one with the new set at the position that it
// had: by G3 nothing is missed and nothing comes twice
// (TestSocketChannelsChangeWhileMessagesFlow).
type socket struct {
	*Service
	conn    *websocket.Conn
	writing sync.Mutex // held while a message is written, by the owner or a courier

	frames   chan clientFrame        // capacity 1: to the owner
	turns    chan context.CancelFunc // capacity 1: receive one more, and interrupt the owner by this
	received chan struct{}           // closed when nothing is received any more
	pongs    pongs
	closing  sync.Once
	closer   *time.Timer // of closing

	// The owner's.
	channels  []string
	open      *stream // nil until the first subscribe; without channels it gives heartbeats
	heartbeat time.Duration
}

func (s *Service) newSocket(conn *websocket.Conn) *socket {
	k := &socket{
		Service: s, conn: conn, heartbeat: defaultHeartbeat,
		frames: make(chan clientFrame, 1), turns: make(chan context.CancelFunc, 1), received: make(chan struct{}),
	}
	conn.SetPingHandler(k.pinged)
	conn.SetCloseHandler(func(int, string) error { return nil }) // end answers it
	return k
}

// serve is the owner's goroutine. first is nil, or what the handshake asked for.
func (k *socket) serve(ctx context.Context, first *walking) {
	defer k.sockets.open.Remove(k.conn)
	go k.receive()
	if err := k.enter(&k.counts.streams); err != nil {
		k.end(ctx, err)
		return
	}
	defer k.leave(&k.counts.streams)
	k.end(ctx, k.live(ctx, first))
	if k.open != nil {
		k.open.sub.Close()
	}
}

// refused tells f and ends, on the caller's goroutine.
func (k *socket) refused(ctx context.Context, f *fault) {
	defer k.sockets.open.Remove(k.conn)
	go k.receive()
	k.end(ctx, f)
}

// live gives and answers until something ends the socket, and returns that.
func (k *socket) live(ctx context.Context, first *walking) (err error) {
	defer recovered(&err)
	if first != nil {
		err := k.hands.aside(func() error {
			_, batch, err := k.change(ctx, clientFrame{channels: first.channels, after: first.after, heartbeat: first.heartbeat})
			if err != nil {
				return err
			}
			return k.open.give(ctx, batch)
		})
		if err != nil {
			return err
		}
	}
	for {
		riding, interrupt := context.WithCancel(ctx)
		k.turns <- interrupt // has room: the last one was taken
		err := k.ride(riding)
		interrupted := riding.Err() != nil
		interrupt()
		if !interrupted {
			return err
		}
		select {
		case f := <-k.frames:
			if err := k.hands.aside(func() error { return k.answer(ctx, f) }); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ride gives what comes until ctx ends, or something ends the socket.
func (k *socket) ride(ctx context.Context) error {
	if k.open != nil {
		return k.open.run(ctx)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.draining.Done():
		return bus.ErrDraining
	}
}

// answer does what a frame asks for and answers it. Its error ends the socket.
func (k *socket) answer(ctx context.Context, f clientFrame) error {
	if f.err == nil && f.ends != nil {
		return f.ends
	}
	last, first, err := bus.ID(0), dispatch.Batch{}, f.err
	if err == nil {
		last, first, err = k.change(ctx, f)
	}
	if err != nil {
		told := inJSONNames(k.refuse(ctx, "WebSocket", err))
		if err := k.write(ctx, told.appendAnswer(nil, &f.request)); err != nil {
			return err
		}
		if k.open == nil && errors.Is(err, bus.ErrDraining) {
			return err // else the stream says so, behind its last
		}
		return f.ends
	}
	if err := k.write(ctx, appendAck(nil, f.request, last)); err != nil || f.removes {
		return err
	}
	return k.open.give(ctx, first)
}

// change begins with other channels, and returns the position where it does; first is what
// there is at once for a frame that adds some. What fails changes nothing.
func (k *socket) change(ctx context.Context, f clientFrame) (last bus.ID, first dispatch.Batch, err error) {
	channels, err := k.channelsAfter(f)
	if err != nil {
		return 0, first, err
	}
	after := f.after
	if k.open != nil && after == nil {
		at := k.open.sub.Last()
		after = &at
	}
	if f.removes {
		k.open.sub.Close() // before: who gives up channels shall not need room for others
	}
	sub, err := k.opts.Dispatcher.Subscribe(ctx, channels, after)
	if err != nil {
		return 0, first, err
	}
	if after != nil {
		last = *after // and no more: channels that are removed were given up to here
	} else {
		last = sub.Last()
	}
	if !f.removes {
		if first, err = sub.Next(ctx, streamMax, 0); err != nil {
			sub.Close()
			return 0, first, err
		}
		if k.open != nil {
			k.open.sub.Close()
		}
	}
	if f.heartbeat > 0 {
		k.heartbeat = f.heartbeat
	}
	k.channels, k.open = channels, k.streamOf(ctx, sub)
	return last, first, nil
}

// channelsAfter returns the channels that there are behind f. To add what there is, or to
// remove what there is not, is no fault: a client says what it wants to have.
func (k *socket) channelsAfter(f clientFrame) ([]string, error) {
	if f.removes {
		if k.open == nil {
			return nil, bus.Invalid(bus.InvalidField, "unsubscribe", "nothing was subscribed to")
		}
		removed := make(map[string]struct{}, len(f.channels))
		for _, channel := range f.channels {
			removed[channel] = struct{}{}
		}
		return slices.DeleteFunc(slices.Clone(k.channels), func(channel string) bool {
			_, is := removed[channel]
			return is
		}), nil
	}
	if f.after != nil && len(k.channels) > 0 {
		return nil, bus.Invalid(bus.InvalidField, "subscribe.after", "%d, must be absent: the socket has channels, and one position for all", *f.after)
	}
	channels := unique(slices.Concat(k.channels, f.channels))
	if len(channels) > k.limits.MaxChannels {
		return nil, bus.Invalid(bus.InvalidField, "subscribe.channels", "%d channels with those of the socket, at most %d", len(channels), k.limits.MaxChannels)
	}
	return channels, nil
}

// streamOf returns the stream of sub. It outlives no change, and is counted with the socket.
func (k *socket) streamOf(ctx context.Context, sub *dispatch.Subscription) *stream {
	return &stream{
		Service: k.Service, sub: sub, heartbeat: k.heartbeat,
		to: way{give: func(b dispatch.Batch) error { return k.write(ctx, appendBatch(nil, b)) }},
		carrier: dispatch.Carrier{
			Peer:  maphash.String(k.peers, k.conn.RemoteAddr().String()),
			Carry: func(b *dispatch.Batch) error { return given(ctx, k.carry(b)) },
		},
	}
}

// carry writes a batch that others may be given, too. An interrupted Ride waits for it.
func (k *socket) carry(b *dispatch.Batch) error {
	prepared, made := b.Forms[formWebSocket].(*websocket.PreparedMessage)
	if !made {
		var err error
		if prepared, err = websocket.NewPreparedMessage(websocket.TextMessage, appendBatch(nil, *b)); err != nil {
			return err
		}
		b.Forms[formWebSocket] = prepared
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	return k.conn.WritePreparedMessage(prepared)
}

// write writes one message. It has no deadline: a client that does not read is a slow
// reader, and is not read either.
func (k *socket) write(ctx context.Context, text []byte) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	return given(ctx, k.conn.WriteMessage(websocket.TextMessage, text))
}

func appendAck(dst []byte, request string, last bus.ID) []byte {
	dst = append(dst, `{"ack":{"request":`...)
	dst = jsonform.AppendString(dst, request)
	dst = append(dst, `,"last":`...)
	dst = strconv.AppendInt(dst, int64(last), 10)
	return append(dst, "}}"...)
}

// recovered, deferred, makes an error of a panic.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v\n%s", errPanicked, p, debug.Stack())
	}
}
