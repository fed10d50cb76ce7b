package odoo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestOdooFramesAreReadAsOdooReadsThem(t *testing.T) {
	frame := func(last string) string {
		return `{"event_name":"subscribe","data":{"channels":["b","a"],"last":` + last + `},"more":1}`
	}
	for text, want := range map[string]string{
		frame("42"):                    "[b a] 42",
		frame("0"):                     "[b a] recent",
		frame("-0"):                    "[b a] recent",
		frame("false"):                 "[b a] recent",
		frame("true"):                  "[b a] 1",
		frame("0.9"):                   "[b a] recent",
		frame("41.5"):                  "[b a] 41",
		frame("-0.5"):                  "[b a] 0",
		frame("-1"):                    "[b a] 0",
		frame("1e3"):                   "[b a] 1000",
		frame("1e400"):                 fmt.Sprint("[b a] ", math.MaxInt64),
		frame("-1e400"):                "[b a] 0",
		frame("99999999999999999999"):  fmt.Sprint("[b a] ", math.MaxInt64),
		frame("-99999999999999999999"): "[b a] 0",
		`{"event_name":"subscribe","data":{"channels":[],"last":1}}`:                   "[] 1",
		` {"event_name" : "sub\u0073cribe" , "data":{"channels":["\u00fc"],"last":1}}`: "[ü] 1",
		`{"event_name":"update_presence","data":{"inactivity_period":5}}`:              "nothing",
		`{"event_name":"other"}`:     "nothing",
		`{"Event_Name":"subscribe"}`: "event_name: missing, or not a string",
		frame("null"):                "last: not a number",
		frame(`"0"`):                 "last: not a number",
		`{"event_name":"subscribe","data":{"channels":["a",1]}}`:    "channels[1]: only string channels are allowed",
		`{"event_name":"subscribe","data":{"channels":["\udc00"]}}`: "channels: the escape of a lone surrogate",
		`{"event_name":"subscribe","data":"x"}`:                     "data: missing, or not an object",
		`{"event_name":"subscribe","data":{"channels":["a"]}`:       "not a JSON object",
		`{"event_name":"subscribe","data":{"channels":["a"]}} {}`:   "not a JSON object",
	} {
		if got := describe(readFrame([]byte(text))); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func describe(s *subscribing, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case s == nil:
		return "nothing"
	case s.last.recent:
		return fmt.Sprint(s.channels, " recent")
	}
	return fmt.Sprint(s.channels, " ", s.last.id)
}

// A room is a Core that counts what is taken of it.
type room struct {
	Core
	left, taken int64
}

func (r *room) TakeRoom(n int64) bool {
	if n > r.left {
		return false
	}
	r.left -= n
	r.taken += n
	return true
}
func (r *room) GiveRoom(n int64) { r.left += n }

func TestOdooFramesTakeTheirRoomOfTheRequests(t *testing.T) {
	for _, size := range []int{0, 100, smallMessage, 100_000, maxMessage} {
		core := &room{left: 4 * maxMessage}
		in := arrival{core: core}
		data, err := in.read(iotest.HalfReader(strings.NewReader(strings.Repeat("x", size))))
		if err != nil || len(data) != size {
			t.Errorf("%d bytes: %d, %v", size, len(data), err)
		}
		if taken := core.taken; size > smallMessage && taken < int64(size) || size < smallMessage && taken > 0 || taken > 4*int64(size) {
			t.Errorf("%d bytes took room for %d", size, taken)
		}
		if in.release(); core.left != 4*maxMessage {
			t.Errorf("%d bytes: %d of the room are not given back", size, 4*maxMessage-core.left)
		}
	}
	core := &room{left: 10_000}
	in := arrival{core: core}
	if _, err := in.read(strings.NewReader(strings.Repeat("x", 100_000))); !errors.Is(err, overloaded) {
		t.Errorf("without room: %v", err)
	}
	if in.release(); core.left != 10_000 {
		t.Errorf("%d left of 10000", core.left)
	}
}

// FuzzOdooFrame: whatever comes is read as what it says, or refused.
func FuzzOdooFrame(f *testing.F) {
	for _, seed := range []string{
		`{"event_name":"subscribe","data":{"channels":["b","a"],"last":42}}`,
		`{"event_name":"subscribe","data":{"channels":["\ud83d\ude00"],"last":-1.5e3}}`,
		`{"event_name":"update_presence","data":{"inactivity_period":5,"im_status_ids_by_model":{}}}`,
		`{"event_name":"subscribe","data":{"channels":[],"last":true},"event_name":"other"}`,
		"\x00", "", "null",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		given := bytes.Clone(data)
		got, err := readFrame(data)
		if !bytes.Equal(given, data) {
			t.Fatal("the frame was changed")
		}
		if err != nil || got == nil {
			return
		}
		// Decoded by another way it says the same.
		var other struct {
			EventName string `json:"event_name"`
			Data      struct {
				Channels []string        `json:"channels"`
				Last     json.RawMessage `json:"last"`
			} `json:"data"`
		}
		var keys map[string]any
		if err := json.Unmarshal(data, &keys); err != nil {
			t.Fatalf("%q is no JSON", data)
		}
		if got.last.id < 0 || got.last.recent && got.last.id != 0 {
			t.Errorf("last %+v", got.last)
		}
		for _, channel := range got.channels {
			if !utf8.ValidString(channel) {
				t.Errorf("channel %q", channel)
			}
		}
		// The library takes names in any case, and this reader only the exact one.
		if json.Unmarshal(data, &other) == nil && other.EventName == "subscribe" && len(keys) == 2 && len(keys["data"].(map[string]any)) == 2 &&
			!bytes.Contains(data, []byte("�")) && !slices.Equal(other.Data.Channels, got.channels) && len(got.channels) > 0 {
			t.Errorf("channels %q, the library reads %q", got.channels, other.Data.Channels)
		}
	})
}
