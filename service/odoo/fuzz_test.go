package odoo

import (
	"encoding/json"
	"errors"
	"runtime"
	"testing"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/bus"
)

// FuzzRequest: a body is a request or is refused in words, and takes no more memory than a
// multiple of its size.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"params":{"channels":["a","b"],"last":42,"options":{"bus_inactivity":337}}}`, `{"params":{"channels":"abc","last":false,"options":null}}`,
		`{"params":{"channels":{"a":1},"last":null,"options":{"peek":true}}}`, `{"params":{"channels":["a"],"last":"0","options":{"peek":[]}}}`,
		`{"params":{"channels":["\ud800"],"last":1e30}}`, `{"params":{"channels":[1],"last":"x"}}`, `{"params":{"channels":1}}`, `{"id":{"a":[]}}`, `[]`, `null`,
		`{"params":{"channels":["a"],"last":0.5,"options":[1]}}`, `{"params":{"channels":["a"],"last":9223372036854775807}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p params
		var id json.RawMessage
		var err error
		costs(t, len(body), func() { id, p, err = readEnvelope(body) })
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if !json.Valid(body) || !json.Valid(id) || len(id) > maxIDBytes {
			t.Fatalf("accepted %q, id %q", body, id)
		}
		var req polling
		costs(t, len(body), func() { req, err = readPoll(p) })
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if req.after != nil && (*req.after < 0 || req.recent) {
			t.Fatalf("%+v", req)
		}
		for _, channel := range req.channels {
			if !utf8.ValidString(channel) {
				t.Fatalf("channel %q", channel)
			}
		}
	})
}

func costs(t *testing.T, size int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	// The fuzzing engine allocates beside it.
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(4<<20+200*size); got > most {
		t.Fatalf("%d bytes allocated for %d, at most %d", got, size, most)
	}
}

func wantRefusal(t *testing.T, err error) {
	t.Helper()
	var invalid *bus.InvalidError
	if !errors.As(err, &invalid) || err.Error() == "" || len(err.Error()) > 2_000 {
		t.Fatalf("%v (%T)", err, err)
	}
}
