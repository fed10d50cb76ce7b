package service

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func FuzzReadClientFrame(f *testing.F) {
	for _, seed := range []string{
		`{"subscribe":{"channels":["a","b"],"after":"42","heartbeat":"20s"},"request":"1"}`, `{"unsubscribe":{"channels":["a"]},"request":"2"}`,
		`{"request":"3","subscribe":null,"unsubscribe":{"channels":["a"]},"_":[{}]}`, `{"subscribe":{"channels":[null]}}`, `{"subscribe":[]}`,
		`{"request":"\ud83d\ude00","x":1}`, `{"request":null,"subscribe":{"channels":["a","a"],"_after":1}}`, `{"unsubscribe":{"after":1}}`, `null`,
	} {
		f.Add([]byte(seed))
	}
	s := newFuzzed()
	f.Fuzz(func(t *testing.T, data []byte) {
		var got clientFrame
		costs(t, len(data), func() { got = s.readClientFrame(data) })
		if len(got.request) > maxRequestName || !utf8.ValidString(got.request) {
			t.Fatalf("request %q", got.request)
		}
		if got.ends != nil {
			t.Fatalf("ends: %v", got.ends)
		}
		if got.err != nil {
			wantRefusal(t, got.err)
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		// What the reader took is what encoding/json finds at the same places.
		var members map[string]json.RawMessage
		if err := json.Unmarshal(data, &members); err != nil {
			t.Fatal(err)
		}
		var request *string
		if raw, named := members["request"]; named {
			if err := json.Unmarshal(raw, &request); err != nil {
				t.Fatal(err)
			}
		}
		if request == nil && got.request != "" || request != nil && *request != got.request {
			t.Fatalf("request %q of %s", got.request, data)
		}
		asked := "subscribe"
		if got.removes {
			asked = "unsubscribe"
		}
		var inner map[string]json.RawMessage
		if err := json.Unmarshal(members[asked], &inner); err != nil || inner == nil {
			t.Fatalf("%s of %s: %v", asked, data, err)
		}
		var channels []string
		if err := json.Unmarshal(inner["channels"], &channels); err != nil {
			t.Fatal(err)
		}
		wantChannels(t, s, unique(got.channels), channels)
		if got.heartbeat != 0 && (got.heartbeat < minHeartbeat || got.heartbeat > maxWait) || got.after != nil && *got.after < 0 {
			t.Fatalf("%+v", got)
		}
		f := &fault{reason: ReasonInternal}
		for _, answer := range [][]byte{appendAck(nil, got.request, 1), f.appendAnswer(nil, &got.request)} {
			var back map[string]struct{ Request *string }
			if err := json.Unmarshal(answer, &back); err != nil || len(back) != 1 {
				t.Fatalf("%s: %v", answer, err)
			}
			for _, of := range back {
				if of.Request == nil || *of.Request != got.request {
					t.Fatalf("%s of request %q", answer, got.request)
				}
			}
		}
	})
}
