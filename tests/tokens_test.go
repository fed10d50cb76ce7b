package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// payloads are JSON texts whose tokens a careless reader would change.
var payloads = []string{
	`null`, `true`, `""`, `{}`, `[]`, `{"":0}`,
	`0`, `-0`, `-0.0`, `1.0`, `1.10`, `1E+2`, `0.1e-7`, `1e400`, `-1e-400`,
	`9007199254740993`, `12345678901234567890123456789`,
	`"\" \\ \/ \b \f \n \r \t"`, `"/ é \u00e9 \u00E9 \u0065"`, "\"\x7f <>&' \u2028\u2029\"", `"\u2028\u2029\u003c"`,
	`"\ud83d\ude00 \uD83D\uDE00 😀"`,
	`{"a":1,"a":2,"b":{"é":1,"\u00e9":1},"a":1}`, `{"z":1,"y":2,"x":3,"10":4,"9":5}`,
	" { \"a\" : [ 1 ,\t2 ] ,\n\"b\":{ } } ",
	strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
	strings.Repeat(`{"a":`, 999) + `{}` + strings.Repeat("}", 999),
}

// unnamable are those with an escape that names no character. postbus.send_messages
// refuses them, and says so; every other way takes them.
var unnamable = []string{`"\u0000"`, `{"\u0000":"a\u0000"}`, `"\ud800"`, `"\udc00\ud800"`, `"a\uDFFFb"`}

func TestJSONTokensArriveAsSentByEveryWayInAndOut(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	sent := make(map[string][]string)
	count := 0
	for _, in := range waysIn(t, n, url) {
		for _, payload := range slices.Concat(payloads, unnamable) {
			err := in.json(in.name, payload)
			if in.name == "postbus.send_messages" && slices.Contains(unnamable, payload) {
				if err == nil {
					t.Errorf("%s took %s, which it says it refuses", in.name, payload)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s of %.60s: %v", in.name, payload, err)
			}
			sent[in.name] = append(sent[in.name], payload)
			count++
		}
	}
	channels := slices.Sorted(maps.Keys(sent))
	for out, read := range waysOut(t, n, url) {
		t.Run(out, func(t *testing.T) {
			got := make(map[string][]string)
			last := int64(0)
			for _, a := range read(channels, count) {
				if a.ID <= last || a.Type != sentType || len(a.Headers) != 1 || a.Headers[headerName] != headerText {
					t.Fatalf("behind id %d: %+v", last, a)
				}
				last = a.ID
				got[a.Channel] = append(got[a.Channel], compact(t, string(a.Payload)))
			}
			for channel, payloads := range sent {
				for i, payload := range payloads {
					if want := compact(t, payload); i >= len(got[channel]) || got[channel][i] != want {
						t.Errorf("from %s: want %.200s, got %.200q", channel, want, got[channel][min(i, len(got[channel])):])
						break
					}
				}
			}
		})
	}
	for channel, payloads := range sent { // Odoo's has no channels
		odoo := n.odoo(t, fmt.Sprintf(`{"channels":[%s],"last":-1,"options":{"peek":true}}`, marshal(t, channel)))
		var result struct {
			Notifications []struct{ Message arrival }
		}
		must(t, json.Unmarshal(odoo.Result, &result))
		socket := n.odooSocket(t)
		socket.subscribe(-1, channel)
		for given := 0; given < len(payloads); {
			_, frame := socket.frame(t)
			var notifications []struct{ Message arrival }
			must(t, json.Unmarshal([]byte(frame), &notifications))
			for _, got := range notifications {
				if text := compact(t, string(got.Message.Payload)); given < len(payloads) && text != compact(t, payloads[given]) {
					t.Errorf("Odoo's socket, from %s: want %.200s, got %.200s", channel, payloads[given], text)
				}
				given++
			}
		}
		if len(result.Notifications) != len(payloads) {
			t.Fatalf("Odoo: %d of %d", len(result.Notifications), len(payloads))
		}
		for i, payload := range payloads {
			if got := compact(t, string(result.Notifications[i].Message.Payload)); got != compact(t, payload) {
				t.Errorf("Odoo, from %s: want %.200s, got %.200s", channel, payload, got)
			}
		}
	}
}

// compact takes the white space between tokens out.
func compact(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%.100q: %v", text, err)
	}
	return b.String()
}
