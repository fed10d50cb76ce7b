package tests

import (
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"sync/atomic"
	"testing"
)

// odooFront starts what stands before every server of Odoo: it answers 502 while there is
// none where it was moved to last.
func odooFront(t *testing.T) (url string, moveTo func(*served)) {
	t.Helper()
	var target atomic.Pointer[neturl.URL]
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target.Load()) },
		ErrorLog: log.New(io.Discard, "", 0),
	})
	t.Cleanup(front.Close)
	return front.URL, func(s *served) {
		t.Helper()
		u, err := neturl.Parse(s.httpURL)
		must(t, err)
		target.Store(u)
	}
}
