package tests

import (
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestOdooErrorsAreThoseItsClientCanRead(t *testing.T) {
	t.Parallel()
	for version, n := range odooVersions(t, 13, 14, 15) {
		for _, c := range []struct{ params, name, says string }{
			{`{"channels":[1],"last":0}`, "builtins.Exception", "bus.Bus only string channels are allowed."},
			{`{"channels":["a",null],"last":0}`, "builtins.Exception", "bus.Bus only string channels are allowed."},
			{`{"channels":[["db","a"]],"last":0}`, "builtins.Exception", "bus.Bus only string channels are allowed."},
			{`{"channels":[{}],"last":0}`, "builtins.Exception", "bus.Bus only string channels are allowed."},
			{`{"channels":null,"last":0}`, "builtins.TypeError", "'NoneType' object is not iterable"},
			{`{"channels":7,"last":0}`, "builtins.TypeError", "'int' object is not iterable"},
			{`{"channels":["a"]}`, "builtins.TypeError", "missing 1 required positional argument: 'last'"},
			{`{"last":0}`, "builtins.TypeError", "missing 1 required positional argument: 'channels'"},
			{`{}`, "builtins.TypeError", "missing 2 required positional arguments: 'channels' and 'last'"},
			{`{"channels":["a"],"last":0.5}`, "builtins.Exception", "invalid input syntax for type integer"},
			{`{"channels":["a"],"last":"x"}`, "builtins.Exception", "invalid input syntax for type integer"},
			{`{"channels":["a"],"last":1e300}`, "builtins.Exception", "out of range"},
			{`{"channels":["a"],"last":[]}`, "builtins.TypeError", "'list' is no id"},
			{`{"channels":["a"],"last":0,"options":[1]}`, "builtins.AttributeError", "'list' object has no attribute 'get'"},
			{`{"channels":["a"],"last":0,"options":"peek"}`, "builtins.AttributeError", "'str' object has no attribute 'get'"},
			{`{"channels":["\ud800"],"last":0}`, "builtins.ValueError", "lone surrogate"},
			{`{"channels":["` + strings.Repeat("x", 256) + `"],"last":0}`, "postbus.INVALID_FIELD", "channels[0]: 256 bytes, at most 255"},
			{`{"channels":[""],"last":0}`, "postbus.INVALID_FIELD", "channels[0]: empty, 1 to 255 bytes"},
			{`{"channels":["postbus:x"],"last":0,"options":{"peek":true}}`, "postbus.INVALID_FIELD", "reserved"},
			{`{"channels":["` + strings.Repeat(`a","`, 99_999) + `a"],"last":0}`, "postbus.INVALID_FIELD", "channels: 100000 channels, at most 1000"},
		} {
			n.odoo(t, c.params).raises(t, c.params, 200, c.name, c.says)
		}
		if s := n.service.Stats(); s.Requests != 0 || s.RequestBytes != 0 || s.Faults["INVALID_FIELD"] != 20 || s.Faults["INTERNAL"] != 0 {
			t.Errorf("%d: %+v", version, s)
		}
	}
}

// What is no JSON-RPC request is refused with a status of its own, where Odoo answers pages
// of HTML, 500 among them.
func TestOdooRefusesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	const form, json = "application/x-www-form-urlencoded", "application/json"
	for _, path := range []string{"/longpolling/poll", "/websocket/peek_notifications", "/longpolling/im_status", "/bus/has_missed_notifications"} {
		for _, c := range []struct {
			body, kind, reason string
		}{
			{`{`, json, "MALFORMED_JSON"}, {``, json, "MALFORMED_JSON"}, {"\"\xff\"", json, "MALFORMED_JSON"},
			{`[]`, json, "INVALID_FIELD"}, {`null`, json, "INVALID_FIELD"}, {`{"params":[]}`, json, "INVALID_FIELD"}, {`{"params":null}`, json, "INVALID_FIELD"},
			{`{"id":"` + strings.Repeat("x", 254) + `"}`, json, "INVALID_FIELD"},
			{`{"params":{"a":"` + strings.Repeat("x", 9<<20) + `"}}`, json, "TOO_LARGE"},
			{"channels=a", form, "UNSUPPORTED_MEDIA_TYPE"}, {`{}`, "text/plain", "UNSUPPORTED_MEDIA_TYPE"},
		} {
			resp, answer := n.asks(t, asking{"POST", path, c.body, []string{"Content-Type", c.kind}})
			refused(t, resp, answer, 400, c.reason)
			anyOrigin := path == "/longpolling/poll" || path == "/websocket/peek_notifications"
			if got := resp.Header.Get("Access-Control-Allow-Origin"); (got == "*") != anyOrigin {
				t.Errorf("%s %.50q: Access-Control-Allow-Origin %q", path, c.body, got)
			}
		}
	}
	if s := n.service.Stats(); s.Requests != 0 || s.RequestBytes != 0 {
		t.Errorf("%+v", s)
	}
}
