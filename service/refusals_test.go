package service_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

func TestRefusalsNameTheFieldAndTheFault(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := start(t, url, nodeOptions{})
	schemas := loadSchemas(t)
	message := func(members string) string { return `{"messages":[{"channel":"a"},{` + members + `}]}` }
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		reason             string
		message            string // its beginning
	}{
		"no route":            {"GET", "/v2/poll", "", nil, 404, "NOT_FOUND", `no route "/v2/poll"`},
		"method":              {"DELETE", "/v1/poll", "", nil, 405, "METHOD_NOT_ALLOWED", `method "DELETE", allowed: GET, POST`},
		"override":            {"POST", "/v1/send", "{}", []string{"X-HTTP-Method-Override", "GET"}, 400, "INVALID_FIELD", "messages: none"},
		"form":                {"POST", "/v1/send", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type"},
		"no type":             {"POST", "/v1/poll", "{}", []string{"Content-Type", ""}, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type"},
		"foreign origin":      {"POST", "/v1/send", "{}", []string{"Origin", "https://evil.example"}, 403, "FORBIDDEN", `Origin "https://evil.example"`},
		"null origin":         {"GET", "/v1/poll", "", []string{"Origin", "null"}, 403, "FORBIDDEN", `Origin "null"`},
		"foreign host":        {"GET", "/v1/poll", "", []string{"Host", "evil.example"}, 403, "FORBIDDEN", `Host "evil.example"`},
		"events, resumed":     {"GET", "/v1/subscribe?channels=a", "", []string{"Accept", "text/event-stream", "Last-Event-ID", "x"}, 400, "INVALID_FIELD", `Last-Event-ID: "x", must be a whole number`},
		"events, negative":    {"GET", "/v1/subscribe?channels=a", "", []string{"Accept", "text/event-stream", "Last-Event-ID", "-1"}, 400, "INVALID_FIELD", `Last-Event-ID: "-1", must be a whole number`},
		"events, too high":    {"POST", "/v1/subscribe", `{"channels":["a"]}`, []string{"Accept", "text/event-stream", "Last-Event-ID", "9223372036854775808"}, 400, "INVALID_FIELD", `Last-Event-ID: "9223372036854775808", must be a whole number below 2^63`},
		"events, no channels": {"GET", "/v1/subscribe", "", []string{"Accept", "text/event-stream"}, 400, "INVALID_FIELD", "channels: none, at least 1"},
		"events, after":       {"GET", "/v1/subscribe?channels=a&after=x", "", []string{"Accept", "text/event-stream", "Last-Event-ID", "1"}, 400, "INVALID_FIELD", "after:"},
		"events, type":        {"POST", "/v1/subscribe", "channels=a", []string{"Accept", "text/event-stream", "Content-Type", "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type"},
		"events, method":      {"PUT", "/v1/subscribe", "", []string{"Accept", "text/event-stream"}, 405, "METHOD_NOT_ALLOWED", `method "PUT", allowed: GET, POST`},
		"events, origin":      {"GET", "/v1/subscribe?channels=a", "", []string{"Accept", "text/event-stream", "Origin", "https://evil.example"}, 403, "FORBIDDEN", "Origin"},
		"events elsewhere":    {"GET", "/v1/poll?channels=a&max=0", "", []string{"Accept", "text/event-stream"}, 400, "INVALID_FIELD", "max: 0"},
		"channels":            {"POST", "/v1/subscribe", `{"channels":["a"` + strings.Repeat(`,"a"`, 99_999) + `]}`, []string{"Accept", "text/event-stream"}, 400, "INVALID_FIELD", "channels: "},
		"Grpc-Timeout":        {"GET", "/v1/poll?channels=a", "", []string{"Grpc-Timeout", "5"}, 400, "INVALID_FIELD", "Grpc-Timeout"},
		"empty":               {"POST", "/v1/send", "", nil, 400, "MALFORMED_JSON", "the body is not JSON: unexpected end"},
		"not JSON":            {"POST", "/v1/send", `{"messages":[}`, nil, 400, "MALFORMED_JSON", "the body is not JSON: invalid character '}'"},
		"trailing":            {"POST", "/v1/poll", `{"channels":["a"]} x`, nil, 400, "MALFORMED_JSON", "the body is not JSON"},
		"UTF-8":               {"POST", "/v1/poll", "{\"channels\":[\"\xff\"]}", nil, 400, "MALFORMED_JSON", "the body is not valid UTF-8"},
		"array":               {"POST", "/v1/poll", `[]`, nil, 400, "INVALID_FIELD", "body: an array, must be an object"},
		"typo":                {"POST", "/v1/send", message(`"chanel":"b"`), nil, 400, "UNKNOWN_FIELD", "messages[1].chanel: not known"},
		"other case":          {"POST", "/v1/poll", `{"Channels":["a"]}`, nil, 400, "UNKNOWN_FIELD", "Channels: not known"},
		"twice":               {"POST", "/v1/send", message(`"channel":"b","channel":"c"`), nil, 400, "INVALID_FIELD", "messages[1].channel: named twice"},
		"twice, escaped":      {"POST", "/v1/send", message(`"channel":"b","ch\u0061nnel":"c"`), nil, 400, "INVALID_FIELD", "messages[1].channel: named twice"},
		"header twice":        {"POST", "/v1/send", message(`"headers":{"a":"1","a":"2"}`), nil, 400, "INVALID_FIELD", `messages[1].headers["a"]: named twice`},
		"two bodies":          {"POST", "/v1/send", message(`"payload":null,"binary":""`), nil, 400, "INVALID_FIELD", "messages[1].binary: payload and binary"},
		"two bodies, turned":  {"POST", "/v1/send", message(`"binary":"","payload":1`), nil, 400, "INVALID_FIELD", "messages[1].payload: payload and binary"},
		"base64":              {"POST", "/v1/send", message(`"binary":"a*"`), nil, 400, "INVALID_FIELD", "messages[1].binary: not base64"},
		"channel":             {"POST", "/v1/send", message(`"channel":" "`), nil, 400, "INVALID_FIELD", "messages[1].channel: white space"},
		"lone surrogate":      {"POST", "/v1/send", message(`"channel":"\ud800"`), nil, 400, "INVALID_FIELD", "messages[1].channel: has the escape of a lone"},
		"header number":       {"POST", "/v1/send", message(`"headers":{"a":1}`), nil, 400, "INVALID_FIELD", `messages[1].headers["a"]: a number, must be a string`},
		"ttl":                 {"POST", "/v1/send", message(`"channel":"b","ttl":"0s"`), nil, 400, "INVALID_FIELD", "messages[1].ttl: 0s, must be above 0s"},
		"ttl in minutes":      {"POST", "/v1/send", message(`"ttl":"5m"`), nil, 400, "INVALID_FIELD", `messages[1].ttl: "5m", must be seconds`},
		"payload too large":   {"POST", "/v1/send", message(`"channel":"b","payload":"` + strings.Repeat("x", 1<<20) + `"`), nil, 400, "TOO_LARGE", "messages[1].payload: 1048578 bytes, at most 1048576"},
		"payload too deep":    {"POST", "/v1/send", message(`"channel":"b","payload":` + strings.Repeat("[", 1001) + strings.Repeat("]", 1001)), nil, 400, "INVALID_FIELD", "messages[1].payload: nested 1001 deep, at most 1000"},
		"body too large":      {"POST", "/v1/send", `"` + strings.Repeat("x", 9<<20) + `"`, nil, 400, "TOO_LARGE", "body: more than 8454144 bytes, at most 8454144"},
		"too many messages":   {"POST", "/v1/send", `{"messages":[` + strings.Repeat("{},", 1000) + `{}]}`, nil, 400, "TOO_LARGE", "messages: more than 1000 messages"},
		"after, fraction":     {"POST", "/v1/poll", `{"channels":["a"],"after":1.5}`, nil, 400, "INVALID_FIELD", "after: 1.5, must be a whole number"},
		"after, negative":     {"POST", "/v1/poll", `{"channels":["a"],"after":"-1"}`, nil, 400, "INVALID_FIELD", "after: -1, must not be negative"},
		"max":                 {"POST", "/v1/poll", `{"channels":["a"],"max":1001}`, nil, 400, "INVALID_FIELD", "max: 1001, 1 to 1000"},
		"heartbeat":           {"GET", "/v1/subscribe?channels=a&heartbeat=51s", "", nil, 400, "INVALID_FIELD", "heartbeat: 51s, 1s to 50s"},
		"query":               {"GET", "/v1/poll?channel=a", "", nil, 400, "UNKNOWN_FIELD", "channel: not known"},
		"query of a POST":     {"POST", "/v1/poll?after=1", `{"channels":["a"]}`, nil, 400, "UNKNOWN_FIELD", "after: not known"},
		"query twice":         {"GET", "/v1/poll?channels=a&after=1&after=2", "", nil, 400, "INVALID_FIELD", "after: named 2 times"},
		"query max":           {"GET", "/v1/poll?channels=a&max=x", "", nil, 400, "INVALID_FIELD", `max: "x", must be a whole number`},
		"query after":         {"GET", "/v1/poll?channels=a&after=x", "", nil, 400, "INVALID_FIELD", `after: "x", must be a whole number`},
		"query escape":        {"GET", "/v1/poll?channels=%zz", "", nil, 400, "INVALID_FIELD", "query: invalid URL escape"},
		"no channels":         {"GET", "/v1/poll", "", nil, 400, "INVALID_FIELD", "channels: none, at least 1"},
		"long-poll form":      {"POST", "/longpolling/poll", "a=b", []string{"Content-Type", "text/plain"}, 400, "UNSUPPORTED_MEDIA_TYPE", "Content-Type"},
		"long-poll params":    {"POST", "/longpolling/poll", `{"params":[]}`, nil, 400, "INVALID_FIELD", "params: an array, must be an object"},
		"long-poll not JSON":  {"POST", "/longpolling/poll", `{`, nil, 400, "MALFORMED_JSON", "the body is not JSON"},
		"long-poll evil host": {"POST", "/longpolling/poll", `{}`, []string{"Host", "evil.example:8072"}, 403, "FORBIDDEN", "Host"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, answer := n.do(t, c.method, c.path, c.body, c.header...)
			schemas.check(t, "Error", answer)
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("status %s, %s", resp.Status, resp.Header.Get("Content-Type"))
			}
			if text := string(answer); !strings.Contains(text, fmt.Sprintf("%q:%q", "reason", c.reason)) ||
				!strings.Contains(unescape(text), `"message":"`+c.message) {
				t.Errorf("got %.400s\nwant %s: %s", text, c.reason, c.message)
			}
			if c.status == 405 && resp.Header.Get("Allow") != "GET, POST" {
				t.Errorf("Allow %q", resp.Header.Get("Allow"))
			}
		})
	}
	if got := value[bool](t, connect(t, url), "SELECT is_called FROM postbus.bus_id_seq"); got {
		t.Error("a refused send was given an id")
	}
}

func unescape(s string) string { return strings.ReplaceAll(s, `\"`, `"`) }

func TestListedOriginsMayReadAnswers(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{
		CORSOrigins: []string{"https://app.example.com"}, AllowedHosts: []string{"bus.example.com"},
	})
	resp, _ := n.do(t, "OPTIONS", "/v1/send", "", "Origin", "https://app.example.com",
		"Access-Control-Request-Method", "POST", "Host", "bus.example.com:8072")
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
		!strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Error(resp.Status, resp.Header)
	}
	for origin, allowed := range map[string]bool{
		"https://app.example.com": true, "https://app.example.com.evil.example": false, "http://app.example.com": false,
	} {
		resp, _ := n.do(t, "GET", "/v1/poll?channels=a&timeout=0s", "", "Origin", origin)
		if got := resp.Header.Get("Access-Control-Allow-Origin"); (got == origin) != allowed || (resp.StatusCode == 200) != allowed {
			t.Errorf("%s: %s, %q", origin, resp.Status, got)
		}
	}
	resp, _ = n.do(t, "GET", "/v1/poll?channels=a&timeout=0s", "", "Origin", n.http.URL)
	if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("its own origin:", resp.Status, resp.Header)
	}
}

func TestEveryListedReasonIsKnownAndNoOther(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	faults := n.service.Stats().Faults
	for _, reason := range service.Reasons() {
		if _, ok := faults[reason]; !ok {
			t.Errorf("%s is not counted", reason)
		}
	}
	if len(faults) != len(service.Reasons()) {
		t.Errorf("%d reasons are counted, %d listed", len(faults), len(service.Reasons()))
	}
}
