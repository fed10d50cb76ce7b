package service

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc/codes"

	"github.com/postbus/postbus/internal/bus"
)

// socketProtocol is what a client may offer in Sec-WebSocket-Protocol.
const socketProtocol = "postbus.v1"

// serveWebSocket is Subscribe by WebSocket, whose channels come and go while it is open
// (docs/websocket.md). It returns at once: an open socket has goroutines of its own, and
// holds nothing of the request's.
func (s *Service) serveWebSocket(w http.ResponseWriter, r *http.Request, in *incoming) error {
	if err := checkHandshake(w, r); err != nil {
		return err
	}
	var first *walking
	if string(in.data) != "{}" { // the query is a first subscribe
		asked, err := s.readWalking(in)
		if err != nil {
			return err
		}
		first = &asked
	}
	conn, err := s.upgrade(w, r)
	if conn == nil {
		return err
	}
	ctx, cancel := context.WithoutCancel(r.Context()), context.CancelFunc(func() {})
	if deadline, ok := r.Context().Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	k := s.newSocket(conn)
	go func() {
		defer cancel()
		k.serve(ctx, first)
	}()
	return nil
}

// refuseSocket tells a client that upgrades what it is refused for, behind the handshake:
// a browser cannot read the answer to one that fails. A page of a foreign origin learns
// no more than that, as from a refusal by HTTP. It returns false if the handshake is what
// is wrong.
func (s *Service) refuseSocket(w http.ResponseWriter, r *http.Request, f *fault) bool {
	if checkHandshake(w, r) != nil {
		return false
	}
	conn, err := s.upgrade(w, r)
	if conn != nil {
		s.newSocket(conn).refused(r.Context(), f)
	}
	return err == nil
}

// upgrade answers a handshake that was checked. Without a connection and an error, there
// is nobody to tell.
func (s *Service) upgrade(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	conn, err := s.sockets.upgrader.Upgrade(w, r, nil)
	var refused websocket.HandshakeError
	if errors.As(err, &refused) {
		return nil, errNotImplemented("the WebSocket protocol, on this connection,")
	}
	if err != nil {
		return nil, nil
	}
	s.sockets.open.Add(conn)
	return conn, nil
}

// checkHandshake refuses a handshake that is not RFC 6455's.
func checkHandshake(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return errMethod(r.Method, http.MethodGet)
	}
	if !r.ProtoAtLeast(1, 1) || r.ProtoMajor > 1 {
		return errNotImplemented("the WebSocket protocol over " + r.Proto)
	}
	if !headerHas(r.Header, "Sec-WebSocket-Version", "13") {
		h := w.Header()
		h.Set("Sec-WebSocket-Version", "13")
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
		return errSocketVersion(r.Header.Get("Sec-WebSocket-Version"))
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	if len(keys) != 1 {
		return bus.Invalid(bus.InvalidField, "Sec-WebSocket-Key", "named %d times, must be once", len(keys))
	}
	if key, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(key) != 16 {
		return bus.Invalid(bus.InvalidField, "Sec-WebSocket-Key", "%q, must be the base64 of 16 bytes", clip(keys[0]))
	}
	if r.ContentLength != 0 {
		return bus.Invalid(bus.InvalidField, "body", "a handshake has none")
	}
	return nil
}

func errSocketVersion(got string) error {
	return &fault{code: codes.Unimplemented, reason: ReasonNotImplemented, http: http.StatusUpgradeRequired,
		message: fmt.Sprintf("Sec-WebSocket-Version %.20q, must be 13", got)}
}

// handshakeTime bounds the answer to a handshake.
const handshakeTime = 10 * time.Second
