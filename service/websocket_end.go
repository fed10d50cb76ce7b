package service

import (
	"context"
	"errors"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc/codes"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

const (
	// closeTime bounds the end of a socket: what is still to be written, and the client's
	// answer to the close frame.
	closeTime = 5 * time.Second
	// brokenTime bounds the end of one that cannot be read any more.
	brokenTime = time.Second
)

var (
	// errHungUp: the client's connection has ended.
	errHungUp = errors.New("the client hung up")
	// errBroken: the client broke the protocol, and was told.
	errBroken = errors.New("the client broke the protocol")
)

// An ending is the end of a socket whose client was told why by an error.
type ending struct{ code int }

func (e *ending) Error() string { return "the socket ends" }

// end says goodbye and waits for the end of the connection. A client learns of every end but
// the drain's by an error, then by a last response with its position, then by the close frame's code.
func (k *socket) end(ctx context.Context, err error) {
	k.closeWithin(closeTime)
	defer k.closer.Stop()
	code, text, ok := k.farewell(ctx, err)
	switch {
	case ok:
		// If it fails there is nobody to tell.
		_ = k.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Time{})
	case !errors.Is(err, errBroken):
		_ = k.conn.Close()
	}
	close(k.turns)
	<-k.received
	_ = k.conn.Close()
}

// closeWithin closes the connection after at most d; again is nothing.
func (k *socket) closeWithin(d time.Duration) {
	k.closing.Do(func() {
		k.closer = time.AfterFunc(d, func() { _ = k.conn.Close() })
	})
}

// farewell says what comes before the close frame, and returns that; not ok is none.
func (k *socket) farewell(ctx context.Context, err error) (code int, text string, ok bool) {
	var (
		told *ending
		peer *websocket.CloseError
	)
	switch {
	case errors.As(err, &peer):
		return peer.Code, "", true
	case errors.As(err, &told):
		return told.code, "", k.position(ctx) == nil
	case errors.Is(err, bus.ErrDraining) && k.open != nil: // which has given its last
		return websocket.CloseServiceRestart, ReasonDraining, true
	case errors.Is(err, context.Canceled), errors.Is(err, errHungUp), errors.Is(err, errBroken):
		return 0, "", false
	}
	f := inJSONNames(k.refuse(ctx, "WebSocket", err))
	if k.write(ctx, f.appendJSON(nil)) != nil || k.position(ctx) != nil {
		return 0, "", false
	}
	return f.closeCode(), f.reason, true
}

// position gives a last response, if there was one before.
func (k *socket) position(ctx context.Context) error {
	if k.open == nil {
		return nil
	}
	return k.open.give(ctx, dispatch.Batch{Last: k.open.sub.Last()})
}

// closeCode returns the code of a socket that f ends.
func (f *fault) closeCode() int {
	switch f.code {
	case codes.Internal, codes.Unknown:
		return websocket.CloseInternalServerErr
	case codes.ResourceExhausted:
		return websocket.CloseTryAgainLater
	case codes.Unavailable:
		if f.reason == ReasonDraining {
			return websocket.CloseServiceRestart
		}
		return websocket.CloseTryAgainLater
	case codes.DeadlineExceeded:
		return websocket.CloseNormalClosure // the client asked for it
	}
	return websocket.ClosePolicyViolation
}
