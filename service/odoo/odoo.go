// Package odoo speaks the bus protocol of Odoo 13 to 18, so that the clients of Odoo's bus
// module work unchanged: the long-poll of 13 to 15, and what 16 to 18 have in its place.
// It knows the wire and Odoo's habits; whatever touches the bus it asks of a Core.
//
// The protocol has no place for a gap: what retention, a restore or a failover took is
// not told to its clients (docs/odoo.md).
package odoo

import (
	"log/slog"
	"net/http"

	"github.com/gorilla/websocket"
)

// Options configure a Handler. Core is required; the zero value of everything else is the
// documented default.
type Options struct {
	Core   Core
	Logger *slog.Logger // default: slog.Default

	Version int // of Odoo, 13 to 18; default 15

	// WorkerVersion is what the clients of /websocket may say that they are, such as
	// "18.0-7", or several with commas between; "any" allows everything. Default: whatever
	// is of Version.
	WorkerVersion string
}

// A Handler serves the protocol's routes. Its methods may be called from any goroutine.
type Handler struct {
	opts   Options
	core   Core
	log    *slog.Logger
	routes map[string]route

	upgrader websocket.Upgrader
	sockets  sockets
}

// A route is one path of the protocol.
type route struct {
	anyOrigin bool // pages of every origin may use it
	serve     http.HandlerFunc
}

// New returns a Handler.
func New(o Options) *Handler {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Version == 0 {
		o.Version = 15
	}
	h := &Handler{core: o.Core, log: o.Logger, opts: o}
	h.upgrader = h.newUpgrader()
	h.routes = map[string]route{
		"/longpolling/poll": {anyOrigin: true, serve: h.rpc(h.poll)},
		webSocketPath:       {anyOrigin: true, serve: h.webSocket},
	}
	return h
}

// Serves says whether path is one of the protocol's, and whether pages of every origin
// may use it, as they may Odoo's; the others are for pages that the server allows.
func (h *Handler) Serves(path string) (served, anyOrigin bool) {
	to, served := h.routes[path]
	return served, to.anyOrigin
}

// ServeHTTP implements http.Handler, for a path that Serves.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to := h.routes[r.URL.Path]
	if to.anyOrigin {
		header := w.Header()
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("Access-Control-Allow-Methods", "POST")
		if r.Method == http.MethodOptions {
			header.Set("Access-Control-Max-Age", "86400")
			header.Set("Access-Control-Allow-Headers", "Origin, X-Requested-With, Content-Type, Accept, Authorization")
			return
		}
	}
	to.serve(w, r)
}
