package odoo

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

// require raises what Python does when parameters of a method are missing.
func (p params) require(method string, names ...string) error {
	var missing []string
	for _, name := range names {
		if _, ok := p[name]; !ok {
			missing = append(missing, "'"+name+"'")
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return raise("TypeError", "%s() missing 1 required positional argument: %s", method, missing[0])
	}
	return raise("TypeError", "%s() missing %d required positional arguments: %s", method, len(missing), strings.Join(missing, " and "))
}

// A start is where a reader begins.
type start struct {
	after  *bus.ID // nil: from now on
	recent bool    // with the last 50 s instead
}

// readChannels reads a list of strings; of anything else in it kind is raised. A string is
// iterated as its characters, an object as its keys.
func readChannels(raw json.RawMessage, kind string) ([]string, error) {
	if jsonform.HasLoneSurrogate(raw) {
		return nil, raise("ValueError", "channels: the escape of a lone surrogate")
	}
	switch raw[0] {
	case '"':
		return strings.Split(text(raw), ""), nil
	case '{':
		var o map[string]json.RawMessage
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, raise("ValueError", "channels: %v", err)
		}
		return slices.Sorted(maps.Keys(o)), nil
	case '[':
		var elements []json.RawMessage
		if err := json.Unmarshal(raw, &elements); err != nil {
			return nil, raise("ValueError", "channels: %v", err)
		}
		channels := make([]string, len(elements))
		for i, e := range elements {
			if e[0] != '"' {
				return nil, raise(kind, "bus.Bus only string channels are allowed.")
			}
			channels[i] = text(e)
		}
		return channels, nil
	}
	return nil, raise("TypeError", "'%s' object is not iterable", pythonType(raw))
}

// text returns the string that a valid JSON string is.
func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s) // its grammar was checked with the whole
	return s
}

// readLast reads the cursor. 0 and false are the last 50 s; below 0 is everything
// retained, and null is from now on.
func readLast(raw json.RawMessage) (start, error) {
	at := func(n int64) (start, error) {
		id := bus.ID(max(n, 0))
		return start{after: &id}, nil
	}
	noInteger := func(digits string) (start, error) {
		return start{}, raise("Exception", "invalid input syntax for type integer: %q", clip(digits))
	}
	digits := string(raw)
	switch raw[0] {
	case 'n':
		return start{}, nil
	case 'f':
		return start{recent: true}, nil
	case 't':
		return at(1)
	case '[', '{':
		return start{}, raise("TypeError", "last: '%s' is no id", pythonType(raw))
	case '"':
		n, err := strconv.ParseInt(strings.TrimSpace(text(raw)), 10, 64)
		if err != nil {
			return noInteger(text(raw))
		}
		return at(n) // "0" too is an id here, before every other
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(digits, 64)
		switch {
		case err != nil || math.Abs(f) >= 1<<63:
			return start{}, raise("Exception", "integer out of range")
		case f != math.Trunc(f):
			return noInteger(digits)
		}
		n = int64(f)
	}
	if n == 0 {
		return start{recent: true}, nil
	}
	return at(n)
}

// clip shortens what an error repeats of a client's own text.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
