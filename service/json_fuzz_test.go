package service

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"testing"
	"time"
	"unicode/utf8"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
)

// tokens returns the tokens of a JSON text as they stand, without the white space
// between them: independently of json.Compact.
func tokens(text []byte) []byte {
	var out []byte
	inString := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
			continue
		}
		out = append(out, c)
		if inString && c == '\\' {
			i++
			out = append(out, text[i])
		} else if c == '"' {
			inString = !inString
		}
	}
	return out
}

func FuzzReadSend(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"channel":"a","payload": {"a" : 1e400, "a":"\ud800"},"headers":{"_h":"v"},"ttl":"1.5s","key":"k"}]}`,
		`{"messages":[{"channel":"a","binary":"-_8"},null],"_x":[1,{}]}`, `{"messages":null}`, `null`, `{"messages":[{"payload":null}]}`,
		`{"messages":[]}{}`, `{"messages":[{"channel":"\ud83d\ude00"}]}`, `{"messages":[{"ttl":"-1.s"}]}`, `[`, ``, "{\"\xff\":1}",
	} {
		f.Add([]byte(seed))
	}
	limits := bus.DefaultLimits()
	f.Fuzz(func(t *testing.T, data []byte) {
		var req postbusv1.SendRequest
		var err error
		costs(t, len(data), func() { err = jsonReader{&limits}.send(data, &req) })
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		// What the reader took is what encoding/json finds at the same places.
		var want struct{ Messages []map[string]json.RawMessage }
		if err := json.Unmarshal(data, &want); err != nil {
			return // a member that begins with "_" in another case; or none at all
		}
		if len(want.Messages) != len(req.Messages) {
			t.Fatalf("%d messages, want %d", len(req.Messages), len(want.Messages))
		}
		for i, m := range req.Messages {
			if body, ok := m.Body.(*postbusv1.Message_Json); ok && body.Json != string(want.Messages[i]["payload"]) {
				t.Fatalf("payload %q, want %q", body.Json, want.Messages[i]["payload"])
			}
		}
	})
}

func FuzzReadPoll(f *testing.F) {
	for _, seed := range []string{
		`{"channels":["a","b"],"after":"42","timeout":"0s","max":5}`, `{"channels":["a"],"after":1e2}`, `{"after":-0,"_":{}}`,
		`{"channels":["\ud800"]}`, `{"channels":[null]}`, `{"max":2147483648}`, `{"timeout":"999999999999s"}`,
	} {
		f.Add([]byte(seed))
	}
	limits := bus.DefaultLimits()
	f.Fuzz(func(t *testing.T, data []byte) {
		var req postbusv1.PollRequest
		if err := (jsonReader{&limits}).poll(data, &req); err != nil {
			wantRefusal(t, err)
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		for _, channel := range req.Channels {
			if !utf8.ValidString(channel) {
				t.Fatalf("channel %q", channel)
			}
		}
		s := Service{limits: limits, opts: Options{PollTimeout: defaultPollTimeout}}
		if r, err := s.readingOf(&req); err == nil && (r.wait < 0 || r.wait > maxWait || r.max < 1 || r.max > maxPollMax) {
			t.Fatalf("%+v", r)
		}
	})
}

func FuzzWriteNotification(f *testing.F) {
	f.Add(int64(1), "c", "t", []byte(`{"a" : 12345678901234567890, "a":"\ud800\u0000</script>"}`), false, "h", "v")
	f.Add(int64(1)<<52, "\u2028\"\\<", "", []byte{0, 255}, true, "\x01", "é")
	f.Add(int64(7), "c", "", []byte("[1 ,\n\"a \\\" b\"]"), false, "", "")
	f.Fuzz(func(t *testing.T, id int64, channel, kind string, body []byte, binary bool, name, value string) {
		if !utf8.ValidString(channel) || !utf8.ValidString(kind) || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return
		}
		n := &bus.Notification{ID: bus.ID(id), Channel: channel, Type: kind, Headers: map[string]string{name: value},
			SentAt: time.Unix(id%1e9, 0)}
		if binary {
			n.Binary = append([]byte{}, body...)
		} else if n.JSON = string(body); !json.Valid(body) || !utf8.Valid(body) {
			return
		}
		line := notificationJSON(n)
		if bytes.ContainsRune(line, '\n') {
			t.Fatalf("more than a line: %s", line)
		}
		var got struct {
			ID      int64             `json:"id"`
			Channel string            `json:"channel"`
			Type    string            `json:"type"`
			Payload json.RawMessage   `json:"payload"`
			Binary  *string           `json:"binary"`
			Headers map[string]string `json:"headers"`
			SentAt  time.Time         `json:"sent_at"`
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if _, err := dec.Token(); err != io.EOF {
			t.Fatalf("more than an object: %s", line)
		}
		if got.ID != id || got.Channel != channel || got.Type != kind || got.Headers[name] != value || !got.SentAt.Equal(n.SentAt) {
			t.Fatalf("wrote %s of %+v", line, got)
		}
		if binary {
			data, err := base64.StdEncoding.DecodeString(*got.Binary)
			if err != nil || !bytes.Equal(data, body) {
				t.Fatalf("bytes %x of %x", data, body)
			}
		} else if !bytes.Equal(got.Payload, tokens(body)) {
			t.Fatalf("payload %s of %s", got.Payload, body)
		}
	})
}
