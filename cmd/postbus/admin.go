package main

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postbus/postbus/internal/dispatch"
)

// heldTooLong is from when on an open gap is worth a word in /readyz: a commit takes
// milliseconds, so a transaction is stuck.
const heldTooLong = 2 * time.Second

// admin returns the handler of the admin listener: for operators, never for clients.
func (n *node) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", n.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("POST /debug/free", func(w http.ResponseWriter, _ *http.Request) {
		debug.FreeOSMemory()
		fmt.Fprintln(w, "collected, and given back what was free")
	})
	return mux
}

// ready says whether the node serves, or why not.
func (n *node) ready() (bool, string) {
	s := n.dispatcher.State()
	switch {
	case n.draining.Load():
		return false, "draining"
	case !s.Connected && s.Err != nil:
		return false, "not connected to the database: " + s.Err.Error()
	case !s.Connected:
		return false, "connecting to the database"
	case !s.Ready:
		return false, fmt.Sprintf("settling what was there before the start: at %d of %d%s", s.Pos, s.Head, n.heldBy(s))
	}
	return true, "ready"
}

// readyz answers 200 when the node serves, and 503 when it does not. A tail that is held
// up is said here and is no reason to take the node out: every node sees the same.
func (n *node) readyz(w http.ResponseWriter, _ *http.Request) {
	ok, why := n.ready()
	s := n.dispatcher.State()
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, why)
	if s.Held >= heldTooLong {
		fmt.Fprintf(w, "the tail is held at %d for %s%s\n", s.Pos, s.Held.Round(time.Millisecond), n.heldBy(s))
	}
	if s.Connected && !s.Listening {
		fmt.Fprintln(w, "polling: the connection is behind a transaction pooler (see --listen-url)")
	}
}

// heldBy names the transactions that hold the tail up.
func (n *node) heldBy(s dispatch.State) string {
	if len(s.Holders) == 0 {
		return ""
	}
	names := make([]string, len(s.Holders))
	for i, h := range s.Holders {
		names[i] = h.String()
	}
	return " by " + strings.Join(names, ", ")
}
