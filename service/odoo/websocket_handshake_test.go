package odoo

import (
	"net/http/httptest"
	"testing"
)

// Measured versions of the bundles of 17 and 18 are 17.0-1, 18.0-2 to 18.0-7.
func TestOdooSocketIsOpenToBundlesOfItsVersion(t *testing.T) {
	for _, c := range []struct {
		version int
		workers string
		query   string
		agent   string
		want    bool
	}{
		{17, "", "?version=17.0-1", "Mozilla", true},
		{17, "", "?version=17.0-3", "Mozilla", true},
		{17, "", "?version=16.0-1", "Mozilla", false},
		{17, "", "?version=17.1-1", "Mozilla", false},
		{17, "", "", "Mozilla", false},
		{17, "", "?version=", "Mozilla", false},
		{17, "", "", "", true}, // no browser
		{17, "", "?version=16.0-1", "", true},
		{18, "", "?version=18.0-7", "Mozilla", true},
		{18, "", "?version=17.0-1", "Mozilla", false},
		{18, "18.0-7", "?version=18.0-7", "Mozilla", true},
		{18, "18.0-7", "?version=18.0-2", "Mozilla", false},
		{18, "18.0-2, 18.0-7", "?version=18.0-7", "Mozilla", true},
		{18, "any", "?version=19.0-1", "Mozilla", true},
		{18, "any", "", "Mozilla", true},
		{16, "", "", "Mozilla", true}, // does not look
		{16, "16.0-1", "?version=x", "Mozilla", true},
		{15, "", "?version=x", "Mozilla", true},
	} {
		h := &Handler{opts: Options{Version: c.version, WorkerVersion: c.workers}}
		r := httptest.NewRequest("GET", "/websocket"+c.query, nil)
		if c.agent != "" {
			r.Header.Set("User-Agent", c.agent)
		}
		if got := h.accepts(r); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
