package service

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/jsonform"
)

// costs fails the test if f allocates more than a constant and a multiple of size.
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

func FuzzReadSubscribe(f *testing.F) {
	for _, seed := range []string{
		`{"channels":["a","b"],"after":"42","heartbeat":"20s"}`, `{"channels":["a"],"heartbeat":"1.5s","_":[]}`, `{"channels":"a"}`,
		`{"channels":[[]]}`, `{"after":9223372036854775808}`, `{"heartbeat":"1e3s"}`, `{"channels":["\ud83d\ude00"]}`, `{"a":1}`,
		`{"channels":["a","b","a"],"after":0}`, `{"channels":["\ud83d"]}`, `{"channels":["a"],"_":"\ud83d"}`,
	} {
		f.Add([]byte(seed))
	}
	s := newFuzzed()
	f.Fuzz(func(t *testing.T, data []byte) {
		var req postbusv1.SubscribeRequest
		var err error
		costs(t, len(data), func() { err = jsonReader{&s.limits}.subscribe(data, &req) })
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		var sent struct{ Channels json.RawMessage }
		var channels []string
		if err := json.Unmarshal(data, &sent); err != nil {
			t.Fatal(err)
		}
		if sent.Channels != nil && json.Unmarshal(sent.Channels, &channels) != nil || jsonform.HasLoneSurrogate(sent.Channels) || !slices.Equal(channels, req.Channels) {
			t.Fatalf("%q became %q", data, req.Channels)
		}
		if w, err := s.walkingOf(&req); err != nil {
			wantRefusal(t, err)
		} else {
			wantChannels(t, s, w.channels, req.Channels)
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"channels=a&channels=b&after=42&timeout=1s&max=5", "channels=%zz", "channels=%ff", "_=1&channels=a", "max=+5", "max=-0",
		"after=1&after=2", "limit=3", "channels=a;b", "max=1_0", "%00=1", "channels=\"\\", "max=0x1",
	} {
		f.Add(seed)
	}
	s := newFuzzed()
	names := []string{"channels", "after", "timeout", "max"}
	f.Fuzz(func(t *testing.T, query string) {
		data, err := queryJSON(query, names)
		if err != nil {
			wantRefusal(t, err)
			return
		}
		var req postbusv1.PollRequest
		if err := (jsonReader{&s.limits}).poll(data, &req); err != nil {
			wantRefusal(t, err)
			return
		}
		values, err := url.ParseQuery(query)
		if err != nil || !json.Valid(data) {
			t.Fatalf("%q became %s: %v", query, data, err)
		}
		if !slices.Equal(values["channels"], req.Channels) {
			t.Fatalf("channels %q of %q", req.Channels, query)
		}
		if (req.After != nil) != values.Has("after") || (req.Max != nil) != values.Has("max") || (req.Timeout != nil) != values.Has("timeout") {
			t.Fatalf("%q became %s", query, data)
		}
	})
}

func FuzzGrpcTimeout(f *testing.F) {
	for _, seed := range []string{"", "5S", "99999999H", "0n", "-1S", "1.5S", "S", "é", "123456789S", "\x00m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := grpcTimeout(http.Header{"Grpc-Timeout": {text}})
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if d < 0 || d > time.Hour || d == 0 && text != "" {
			t.Fatalf("%q is %v", text, d)
		}
		if text != "" && !regexp.MustCompile(`^[0-9]{1,8}[HMSmun]$`).MatchString(text) {
			t.Fatalf("accepted %q", text)
		}
	})
}

var (
	loopbackHost = regexp.MustCompile(`(?i)^[\[\]]*(localhost|127\.0\.0\.1|::1)[\[\]]*(:[^:]*)?$`)
)

// FuzzGate: without a list only loopback's names pass, and only pages that say they
// came from the host that they ask.
func FuzzGate(f *testing.F) {
	for _, seed := range [][2]string{
		{"localhost:8072", "http://localhost:8072"}, {"[::1]:1", "http://[::1]:1"}, {"localhost.evil", "null"}, {"127.0.0.1", "http://127.0.0.1.evil"},
		{"localhost", "http://evil@localhost"}, {"localhost", "//localhost"}, {"LOCALHOST:", "http://localhost:"}, {"", ""}, {"evil:localhost", "\x00"},
	} {
		f.Add(seed[0], seed[1])
	}
	g := newGate(nil, nil)
	f.Fuzz(func(t *testing.T, host, origin string) {
		r := &http.Request{Method: http.MethodPost, Host: host, Header: http.Header{"Origin": {origin}}}
		if err := g.checkHost(r); err == nil && !loopbackHost.MatchString(host) {
			t.Fatalf("host %q passes", host)
		}
		w := httptest.NewRecorder()
		if _, err := g.checkOrigin(w, r); err == nil {
			_, at, _ := strings.Cut(origin, "//")
			at, _, _ = strings.Cut(at, "/")
			at, _, _ = strings.Cut(at, "?")
			at, _, _ = strings.Cut(at, "#")
			if i := strings.LastIndex(at, "@"); i >= 0 {
				at = at[i+1:]
			}
			unescaped, _ := url.PathUnescape(at) // IPv6 zones
			if !strings.EqualFold(at, host) && !strings.EqualFold(unescaped, host) {
				t.Fatalf("origin %q passes at host %q", origin, host)
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Fatalf("origin %q may read", origin)
		}
	})
}
