// Package odoo speaks the bus protocol of Odoo 13 to 18, so that the clients of Odoo's bus
// module work unchanged: the long-poll of 13 to 15, and what 16 to 18 have in its place.
// It knows the wire and Odoo's habits; whatever touches the bus it asks of a Core.
//
// There are no users: every caller is Odoo's public user, and has no session. The protocol
// has no place for a gap: what retention, a restore or a failover took is not told to its
// clients (docs/odoo.md).
package odoo

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/roster"
)

// Options configure a Handler. Core is required; the zero value of everything else is the
// documented default.
type Options struct {
	Core   Core
	Logger *slog.Logger // default: slog.Default

	// Version is the Odoo whose clients are served, 13 to 18; default 15. Every route is
	// served to all; the version chooses what the long-poll's answers look like, and which
	// channels are read beside those that a client names.
	Version int

	// WorkerVersion is what the clients of /websocket may say that they are, such as
	// "18.0-7", or several with commas between; "any" allows everything. Default: whatever
	// is of Version.
	WorkerVersion string

	// Database is the name that answers give for the database; default "postbus".
	Database string

	// Send serves /longpolling/send, by which whoever reaches it may send. Default: it is
	// not found, as in Odoo 15.
	Send bool

	// Retention is how long messages are kept; default 24 h.
	Retention time.Duration
}

// The versions of Odoo.
const (
	OldestVersion  = 13
	NewestVersion  = 18
	DefaultVersion = 15
)

// A Handler serves the protocol's routes. Its methods may be called from any goroutine.
type Handler struct {
	opts   Options
	core   Core
	log    *slog.Logger
	routes map[string]route

	recent   since // what a client that knows nothing is given
	outlived since // up to it retention has taken everything, or is about to

	upgrader websocket.Upgrader
	sockets  roster.Roster[*socket]
}

// A route is one path of the protocol.
type route struct {
	// preflight is the status that answers a page's preflight: pages of every origin may
	// use the route. 0: only those that the server allows, as everywhere else.
	preflight int
	serve     http.HandlerFunc // nil: it is the long-poll, which may wait
}

// New returns a Handler.
func New(o Options) (*Handler, error) {
	if o.Version == 0 {
		o.Version = DefaultVersion
	}
	if o.Version < OldestVersion || o.Version > NewestVersion {
		return nil, fmt.Errorf("odoo: version %d, %d to %d", o.Version, OldestVersion, NewestVersion)
	}
	if o.Database == "" {
		o.Database = "postbus"
	}
	if o.Retention <= 0 {
		o.Retention = 24 * time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	h := &Handler{
		opts: o, core: o.Core, log: o.Logger,
		recent:   since{age: 50 * time.Second, ask: o.Core.IDBefore},
		outlived: since{age: o.Retention - sinceFresh, ask: o.Core.IDBefore}, // never a moment too late
	}
	h.upgrader = h.newUpgrader()
	h.routes = map[string]route{
		"/longpolling/poll":      {http.StatusOK, nil},
		"/longpolling/send":      {0, h.rpc(h.send)},
		"/longpolling/im_status": {0, h.rpc(imStatus)},
		"/longpolling/health":    {0, serveHealth},

		webSocketPath:                    {http.StatusOK, h.webSocket},
		"/websocket/health":              {0, serveHealth},
		"/websocket/peek_notifications":  {http.StatusNoContent, h.rpc(h.peekNotifications)},
		"/websocket/update_bus_presence": {http.StatusNoContent, h.rpc(updatePresence)},
		"/websocket/on_closed":           {0, h.rpc(onClosed)},
		"/bus/has_missed_notifications":  {0, h.rpc(h.hasMissedNotifications)},
		"/bus/get_autovacuum_info":       {0, h.rpc(h.autovacuumInfo)},
	}
	return h, nil
}

// Serves says whether path is one of the protocol's, and whether pages of every origin
// may use it, as they may Odoo's; the others are for pages that the server allows.
func (h *Handler) Serves(path string) (served, anyOrigin bool) {
	to, served := h.routes[path]
	return served, to.preflight != 0
}

// A Pause is a request that was read and may wait for long before it is answered. Its
// goroutine keeps its stack for as long: so a caller may have Begin and End, which go deep,
// run elsewhere.
type Pause struct {
	Wait func() // must be called
	End  func() // answers; behind Wait
}

// ServeHTTP implements http.Handler, for a path that Serves.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := h.Begin(w, r); p != nil {
		p.Wait()
		p.End()
	}
}

// Begin reads a request to a path that Serves, and answers it unless that may take long.
func (h *Handler) Begin(w http.ResponseWriter, r *http.Request) *Pause {
	to := h.routes[r.URL.Path]
	if to.preflight != 0 {
		header := w.Header()
		header.Set("Access-Control-Allow-Origin", "*") // of errors, too
		header.Set("Access-Control-Allow-Methods", "POST")
		if r.Method == http.MethodOptions {
			allowed := "Origin, X-Requested-With, Content-Type, Accept"
			if h.opts.Version > 13 {
				allowed += ", Authorization"
			}
			header.Set("Access-Control-Allow-Headers", allowed)
			header.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(to.preflight)
			return nil
		}
	}
	if to.serve == nil {
		return h.beginPoll(w, r)
	}
	to.serve(w, r)
	return nil
}

// serveHealth says that the server answers.
func serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, []byte(`{"status": "pass"}`))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // nobody to tell if the caller is gone
}
