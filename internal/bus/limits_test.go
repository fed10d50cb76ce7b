package bus_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

func TestMessageFaultsNameFieldFaultAndLimit(t *testing.T) {
	limits := bus.DefaultLimits()
	good := func() bus.Message { return bus.Message{Channel: "orders", JSON: `{"order":7}`} }
	headers := func(n int) map[string]string {
		h := make(map[string]string)
		for i := range n {
			h[fmt.Sprint(i)] = ""
		}
		return h
	}
	for name, c := range map[string]struct {
		change func(*bus.Message)
		want   string // the only violation, "field: fault"; "" for none
	}{
		"good":                 {func(*bus.Message) {}, ""},
		"longest channel":      {func(m *bus.Message) { m.Channel = strings.Repeat("c", 255) }, ""},
		"long channel":         {func(m *bus.Message) { m.Channel = strings.Repeat("c", 300) }, "messages[3].channel: 300 bytes, at most 255"},
		"bytes, not runes":     {func(m *bus.Message) { m.Channel = strings.Repeat("é", 128) }, "messages[3].channel: 256 bytes, at most 255"},
		"no channel":           {func(m *bus.Message) { m.Channel = "" }, "messages[3].channel: empty, 1 to 255 bytes"},
		"C0":                   {func(m *bus.Message) { m.Channel = "a\x1fb" }, "messages[3].channel: control character U+001F at byte 1, none allowed"},
		"DEL":                  {func(m *bus.Message) { m.Channel = "a\x7f" }, "messages[3].channel: control character U+007F at byte 1, none allowed"},
		"C1":                   {func(m *bus.Message) { m.Channel = "a\u0085b" }, "messages[3].channel: control character U+0085 at byte 1, none allowed"},
		"NUL":                  {func(m *bus.Message) { m.Type = "\x00" }, "messages[3].type: control character U+0000 at byte 0, none allowed"},
		"space inside":         {func(m *bus.Message) { m.Channel = "a b" }, ""},
		"space before":         {func(m *bus.Message) { m.Channel = " a" }, "messages[3].channel: white space at an end, none allowed"},
		"ideographic space":    {func(m *bus.Message) { m.Key = "a\u3000" }, "messages[3].key: white space at an end, none allowed"},
		"reserved":             {func(m *bus.Message) { m.Channel = "postbus:x" }, `messages[3].channel: begins with "postbus:", which is reserved`},
		"reserved, other case": {func(m *bus.Message) { m.Channel = "Postbus:x" }, ""},
		"invalid UTF-8":        {func(m *bus.Message) { m.Channel = "a\xff" }, "messages[3].channel: not valid UTF-8"},
		"65 headers":           {func(m *bus.Message) { m.Headers = headers(65) }, "messages[3].headers: 65 entries, at most 64"},
		"64 headers":           {func(m *bus.Message) { m.Headers = headers(64) }, ""},
		"header bytes":         {func(m *bus.Message) { m.Headers = map[string]string{"n": strings.Repeat("v", 4096)} }, "messages[3].headers: 4097 bytes in all, at most 4096"},
		"header reserved":      {func(m *bus.Message) { m.Headers = map[string]string{"postbus-x": ""} }, `messages[3].headers["postbus-x"]: name begins with "postbus-", which is reserved`},
		"header without name":  {func(m *bus.Message) { m.Headers = map[string]string{"": "v"} }, `messages[3].headers[""]: empty name, 1 to 255 bytes`},
		"header value NUL":     {func(m *bus.Message) { m.Headers = map[string]string{"n": "\x00"} }, `messages[3].headers["n"]: value holds a NUL, none allowed`},
		"ttl":                  {func(m *bus.Message) { m.TTL = -time.Second }, "messages[3].ttl: -1s, must be above 0s"},
		"largest body":         {func(m *bus.Message) { m.JSON = `"` + strings.Repeat("x", 1<<20-2) + `"` }, ""},
		"large body":           {func(m *bus.Message) { m.Binary = make([]byte, 1<<20+1) }, "messages[3].binary: 1048577 bytes, at most 1048576"},
		"empty binary":         {func(m *bus.Message) { m.JSON, m.Binary = "", []byte{} }, ""},
		"not JSON":             {func(m *bus.Message) { m.JSON = `{"a":01}` }, "messages[3].json: not JSON: invalid character '1' after object key:value pair at byte 7"},
		"empty JSON":           {func(m *bus.Message) { m.JSON = "" }, "messages[3].json: not JSON: unexpected end of JSON input at byte 0"},
		"two JSON texts":       {func(m *bus.Message) { m.JSON = `1 2` }, "messages[3].json: not JSON: invalid character '2' after top-level value at byte 3"},
		"JSON UTF-8":           {func(m *bus.Message) { m.JSON = "\"\xff\"" }, "messages[3].json: not valid UTF-8"},
		"lone surrogate":       {func(m *bus.Message) { m.JSON = `"\ud800"` }, ""},
		"1000 deep":            {func(m *bus.Message) { m.JSON = strings.Repeat("[", 1000) + strings.Repeat("]", 1000) }, ""},
		"1001 deep":            {func(m *bus.Message) { m.JSON = strings.Repeat("[", 1001) + strings.Repeat("]", 1001) }, "messages[3].json: nested 1001 deep, at most 1000"},
		"brackets in strings":  {func(m *bus.Message) { m.JSON = `"` + strings.Repeat(`[\"`, 2000) + `"` }, ""},
	} {
		m := good()
		c.change(&m)
		var got []string
		for _, v := range limits.CheckMessage(3, &m) {
			got = append(got, v.Field+": "+v.Fault)
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
	}
}

func TestSendFaultsAreTogetherAndBounded(t *testing.T) {
	limits := bus.DefaultLimits()
	many := func(n int, m bus.Message) []bus.Message {
		ms := make([]bus.Message, n)
		for i := range ms {
			ms[i] = m
			ms[i].Headers = maps.Clone(m.Headers)
		}
		return ms
	}
	good := bus.Message{Channel: "c", JSON: "null"}
	big := bus.Message{Channel: "c", Binary: make([]byte, 1<<20)}
	for name, c := range map[string]struct {
		messages []bus.Message
		reason   string
		faults   int
	}{
		"good":           {many(1000, good), "", 0},
		"none":           {nil, bus.InvalidField, 1},
		"too many":       {many(1001, good), bus.TooLarge, 1},
		"too much":       {many(4, big), bus.TooLarge, 1},
		"one too large":  {many(1, bus.Message{Channel: "c", Binary: make([]byte, 1<<20+1)}), bus.TooLarge, 1},
		"every one":      {many(3, bus.Message{JSON: "null"}), bus.InvalidField, 3},
		"at most twenty": {many(100, bus.Message{JSON: "null"}), bus.InvalidField, 20},
	} {
		err := limits.CheckSend(c.messages)
		if c.faults == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || err.Reason != c.reason || len(err.Violations) != c.faults {
			t.Errorf("%s: got %v, want %d faults of %s", name, err, c.faults, c.reason)
		}
	}
}

func TestChannelListFaultsNameTheEntry(t *testing.T) {
	limits := bus.DefaultLimits()
	for want, channels := range map[string][]string{
		"[]":                            {"a", "b", "a"},
		"[{channels none, at least 1}]": nil,
		"[{channels 1001 channels, at most 1000}]":            make([]string, 1001),
		"[{channels[1] white space at an end, none allowed}]": {"a", "b "},
	} {
		if got := fmt.Sprint(limits.CheckChannels("channels", channels)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
