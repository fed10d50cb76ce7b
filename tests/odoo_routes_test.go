package tests

import (
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service/odoo"
)

// Pages of every origin may use what Odoo's server lets them use, and read its errors; the
// other routes are for those that the server allows.
func TestOdooRoutesHaveOdoosCORS(t *testing.T) {
	t.Parallel()
	for version, n := range odooVersions(t, 13, 14, 18) {
		for path, status := range map[string]int{
			"/longpolling/poll": 200, "/websocket/peek_notifications": 204, "/websocket/update_bus_presence": 204,
			"/longpolling/send": 403, "/longpolling/im_status": 403, "/longpolling/health": 403, "/websocket/health": 403,
			"/websocket/on_closed": 403, "/bus/has_missed_notifications": 403, "/bus/get_autovacuum_info": 403,
		} {
			resp, answer := n.asks(t, asking{"OPTIONS", path, "", []string{"Origin", "https://shop.example", "Access-Control-Request-Method", "POST"}})
			h := resp.Header
			if resp.StatusCode != status || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Set-Cookie") != "" {
				t.Errorf("%d %s: %s %v", version, path, resp.Status, h)
			}
			if status == 403 {
				if h.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%d %s: %v", version, path, h)
				}
				continue
			}
			allowed := "Origin, X-Requested-With, Content-Type, Accept, Authorization"
			if version == 13 {
				allowed = "Origin, X-Requested-With, Content-Type, Accept"
			}
			if answer != "" || h.Get("Access-Control-Max-Age") != "86400" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != "POST" ||
				h.Get("Access-Control-Allow-Headers") != allowed {
				t.Errorf("%d %s: %s %v", version, path, resp.Status, h)
			}
			resp, answer = n.asks(t, asking{"POST", path, `{"params":{"channels":0,"last":0,"options":{"peek":1}}}`, []string{"Origin", "https://shop.example"}})
			if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%d %s: %s %v %s", version, path, resp.Status, resp.Header, answer)
			}
		}
	}
}

func TestOdooHealthPasses(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	for _, path := range []string{"/longpolling/health", "/websocket/health"} {
		resp, answer := n.asks(t, asking{method: "GET", path: path})
		if h := resp.Header; resp.StatusCode != 200 || answer != `{"status": "pass"}` || h.Get("Content-Type") != "application/json" ||
			h.Get("Cache-Control") != "no-store" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s: %s %v %s", path, resp.Status, h, answer)
		}
	}
}

// Every caller is the public user, who has no presence.
func TestOdooCallersAreThePublicUser(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	n.odooAt(t, "/longpolling/im_status", `{"partner_ids":[3,1,999]}`).raises(t, "im_status", 100, "odoo.http.SessionExpiredException", "Session expired")
	if s := n.service.Stats(); s.Faults["FORBIDDEN"] != 1 {
		t.Errorf("%+v", s)
	}
	for path, want := range map[string]string{
		"/websocket/update_bus_presence": `{"jsonrpc":"2.0","id":7,"result":{}}`,
		"/websocket/on_closed":           `{"jsonrpc":"2.0","id":7}`, // without a result
	} {
		if code, got := n.post(t, path, `{"jsonrpc":"2.0","id":7,"params":{"inactivity_period":5,"im_status_ids_by_model":{}}}`); code != 200 || got != want {
			t.Errorf("%s: %d %s", path, code, got)
		}
	}
}

func TestOdooSendIsServedWhenAskedFor(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	off := startNode(t, url, nodeOptions{})
	code, got := off.post(t, "/longpolling/send", `{"id":7,"params":{"channel":"a","message":1}}`)
	if code != 404 || !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":7,"error":{"code":404,"message":"404: Not Found","data":{"name":"werkzeug.exceptions.NotFound",`) ||
		!strings.Contains(got, `"arguments":["`) || !strings.HasSuffix(got, `"http_status":404}}`) {
		t.Errorf("off: %d %s", code, got)
	}
	n := startNode(t, url, nodeOptions{Odoo: odoo.Options{Version: 14, Send: true}})
	for _, message := range []string{`{"b": 1.00, "a": 12345678901234567890, "a": "\u00e9\/"}`, `null`, `"text"`, `[ ]`} {
		if code, got := n.post(t, "/longpolling/send", `{"jsonrpc":"2.0","id":7,"params":{"channel":"a","message":`+message+`}}`); code != 200 || got != `{"jsonrpc":"2.0","id":7}` {
			t.Errorf("%s: %d %s", message, code, got)
		}
	}
	want := `[{"id":1,"channel":"a","message":{"b":1.00,"a":12345678901234567890,"a":"\u00e9\/"}},{"id":2,"channel":"a","message":null},` +
		`{"id":3,"channel":"a","message":"text"},{"id":4,"channel":"a","message":[]}]`
	if got := string(n.odoo(t, `{"channels":["a"],"last":-1}`).Result); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, c := range []struct{ params, name, says string }{
		{`{"message":1}`, "builtins.TypeError", "send() missing 1 required positional argument: 'channel'"},
		{`{"channel":"a"}`, "builtins.TypeError", "send() missing 1 required positional argument: 'message'"},
		{`{"channel":["db","a"],"message":1}`, "builtins.Exception", "bus.Bus only string channels are allowed."},
		{`{"channel":"\udc00","message":1}`, "builtins.ValueError", "lone surrogate"},
		{`{"channel":"","message":1}`, "postbus.INVALID_FIELD", "channel: empty, 1 to 255 bytes"},
		{`{"channel":"postbus:a","message":1}`, "postbus.INVALID_FIELD", "channel: begins with"},
		{`{"channel":"a","message":"` + strings.Repeat("x", 1<<20) + `"}`, "postbus.TOO_LARGE", "message: 1048578 bytes, at most 1048576"},
		{`{"channel":"a","message":` + strings.Repeat("[", 1001) + strings.Repeat("]", 1001) + `}`, "postbus.INVALID_FIELD", "message: nested 1001 deep, at most 1000"},
	} {
		n.odooAt(t, "/longpolling/send", c.params).raises(t, c.params, 200, c.name, c.says)
	}
	resp, answer := n.asks(t, asking{"POST", "/longpolling/send", `{"params":{"channel":"a","message":1}}`, []string{"Origin", "https://evil.example"}})
	refused(t, resp, answer, 403, "FORBIDDEN") // a page of a foreign origin
	if s := n.service.Stats(); s.Requests != 0 || s.RequestBytes != 0 || s.Messages != 4 {
		t.Errorf("%+v", s)
	}
}
