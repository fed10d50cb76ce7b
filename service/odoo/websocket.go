package odoo

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
)

// The WebSocket of Odoo 16 to 18. A client sends what it subscribes to and is sent arrays of
// notifications; it is never answered otherwise, and what it sends wrong is logged and
// ignored, as Odoo's own server does.
const (
	webSocketPath    = "/websocket"
	webSocketVersion = "13"
	handshakeTimeout = 10 * time.Second
	readBuffer       = 512
)

// outdated is the end of a client whose bundle is not the server's: it never comes back,
// and asks its user to load the page again.
var outdated = ending{websocket.CloseNormalClosure, "OUTDATED_VERSION"}

func (h *Handler) newUpgrader() websocket.Upgrader {
	return websocket.Upgrader{
		HandshakeTimeout: handshakeTimeout,
		ReadBufferSize:   readBuffer,
		WriteBufferPool:  new(sync.Pool), // what is written is prepared: an idle socket needs none
		CheckOrigin:      func(*http.Request) bool { return true },
		Error: func(w http.ResponseWriter, r *http.Request, _ int, err error) {
			h.core.Refuse(w, r, err)
		},
	}
}

// webSocket opens a socket. A bound that is reached is told behind the handshake, since a
// browser tells a page nothing of one that failed.
func (h *Handler) webSocket(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, fmt.Sprintf("method %.20q, allowed: GET", r.Method), http.StatusMethodNotAllowed)
		return
	}
	if version := r.Header.Get("Sec-WebSocket-Version"); version != "" && version != webSocketVersion {
		w.Header().Set("Sec-WebSocket-Version", webSocketVersion)
		http.Error(w, fmt.Sprintf("Sec-WebSocket-Version %.20q, must be 13", version), http.StatusUpgradeRequired)
		return
	}
	if err := checkHandshake(r); err != nil {
		h.core.Refuse(w, r, err)
		return
	}
	s := newSocket(h)
	if !h.sockets.Add(s) {
		h.core.Refuse(w, r, bus.ErrDraining)
		return
	}
	conn, err := h.upgrader.Upgrade(w, r, http.Header{"Access-Control-Allow-Origin": {"*"}})
	if err != nil {
		h.sockets.Remove(s)
		return // who was to be told has been told, or is gone
	}
	// On a goroutine of its own, so that what net/http keeps for a request is free.
	go s.run(conn, h.accepts(r))
}

// checkHandshake returns what a client's opening lacks.
func checkHandshake(r *http.Request) error {
	var vs []bus.Violation
	miss := func(header, rule string) { vs = append(vs, bus.Violation{Field: header, Fault: rule}) }
	if !hasToken(r.Header, "Connection", "upgrade") {
		miss("Connection", "must name upgrade")
	}
	if !hasToken(r.Header, "Upgrade", "websocket") {
		miss("Upgrade", "must name websocket")
	}
	if r.Header.Get("Sec-WebSocket-Version") == "" {
		miss("Sec-WebSocket-Version", "missing, must be "+webSocketVersion)
	}
	if key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key")); err != nil || len(key) != 16 {
		miss("Sec-WebSocket-Key", "must be 16 bytes in base64")
	}
	if r.Header.Get("Origin") == "" {
		miss("Origin", "missing, any will do")
	}
	if len(vs) > 0 {
		return &bus.InvalidError{Reason: bus.InvalidField, Violations: vs}
	}
	return nil
}

// hasToken reports whether one of the header's comma-separated values is token.
func hasToken(h http.Header, name, token string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(h.Values(name), ","), ","), func(part string) bool {
		return strings.EqualFold(strings.TrimSpace(part), token)
	})
}

// accepts says whether a client's bundle is one of this server's. Who names no User-Agent,
// such as a box of the Internet of Things, is not asked, and neither is one of 16.
func (h *Handler) accepts(r *http.Request) bool {
	if h.opts.Version < 17 || r.Header.Get("User-Agent") == "" {
		return true
	}
	version := r.URL.Query().Get("version")
	if h.opts.WorkerVersion == "" {
		return strings.HasPrefix(version, fmt.Sprintf("%d.0-", h.opts.Version))
	}
	for accepted := range strings.SplitSeq(h.opts.WorkerVersion, ",") {
		if accepted = strings.TrimSpace(accepted); accepted == version || accepted == "any" {
			return true
		}
	}
	return false
}
