package service

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A gate keeps web pages out that have no business here: any page can make its reader's
// browser reach a server on loopback, under its own name (then Origin is foreign) or
// under a name of its own that resolves to loopback (then Host is foreign).
type gate struct {
	hosts   []string // lower case
	origins []string // lower case
}

func newGate(hosts, origins []string) *gate {
	g := &gate{hosts: []string{"localhost", "127.0.0.1", "::1"}}
	for _, h := range hosts {
		g.hosts = append(g.hosts, strings.ToLower(strings.Trim(h, "[]")))
	}
	for _, o := range origins {
		g.origins = append(g.origins, strings.ToLower(strings.TrimSuffix(o, "/")))
	}
	return g
}

// checkHost refuses a request under a name that is not listed.
func (g *gate) checkHost(r *http.Request) error {
	host := strings.ToLower(r.Host)
	name := host
	if split, _, err := net.SplitHostPort(host); err == nil {
		name = split
	}
	name = strings.Trim(name, "[]")
	if slices.Contains(g.hosts, "*") || slices.Contains(g.hosts, name) || slices.Contains(g.hosts, host) {
		return nil
	}
	return errForbidden("Host", r.Host, "allowed hosts")
}

// checkOrigin refuses a request from a page of a foreign origin that is not listed,
// and lets the pages of listed ones read the answers. It answers a preflight itself,
// and says so.
func (g *gate) checkOrigin(w http.ResponseWriter, r *http.Request) (done bool, err error) {
	origins := r.Header["Origin"]
	w.Header()["Vary"] = varyOrigin
	if len(origins) == 0 {
		return false, nil
	}
	origin := strings.ToLower(origins[0])
	listed := slices.Contains(g.origins, "*") || slices.Contains(g.origins, origin)
	if len(origins) > 1 || !listed && !ownOrigin(origin, r.Host) {
		return false, errForbidden("Origin", strings.Join(origins, ", "), "allowed origins")
	}
	if !listed {
		return false, nil
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origins[0])
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false, nil
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Content-Type, Grpc-Timeout, Last-Event-ID")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true, nil
}

// ownOrigin reports whether origin is the server itself, as the browser asked it.
func ownOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}
