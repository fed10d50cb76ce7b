package service

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/postbus/postbus/internal/bus"
)

// An odooError is what Odoo's own server raises in this case, by its Python name.
type odooError struct{ name, message string }

func (e *odooError) Error() string { return e.name + ": " + e.message }

func odooRaise(kind, format string, args ...any) *odooError {
	return &odooError{"builtins." + kind, fmt.Sprintf(format, args...)}
}

// odooParams are the parameters of a poll.
type odooParams struct {
	channels []string
	after    *bus.ID // nil: from now on
	recent   bool    // begin with the last 50 s instead
	peek     bool
}

// odooParamsOf reads params as Odoo's server does, which takes what Python takes. What
// it does not know it ignores.
func odooParamsOf(params map[string]json.RawMessage) (p odooParams, err error) {
	for _, required := range []string{"channels", "last"} {
		if _, ok := params[required]; !ok {
			return p, odooRaise("TypeError", "poll() missing 1 required positional argument: '%s'", required)
		}
	}
	if p.channels, err = odooChannels(params["channels"]); err != nil {
		return p, err
	}
	if p.after, p.recent, err = odooLast(params["last"]); err != nil {
		return p, err
	}
	if raw, ok := params["options"]; ok && !isNull(raw) {
		var options map[string]json.RawMessage
		if json.Unmarshal(raw, &options) != nil {
			return p, odooRaise("AttributeError", "'%s' object has no attribute 'get'", pythonType(raw))
		}
		peek, ok := options["peek"]
		p.peek = ok && pythonTrue(peek)
	}
	return p, nil
}

// odooChannels reads a list of strings. A string is iterated as its characters, an
// object as its keys.
func odooChannels(raw json.RawMessage) ([]string, error) {
	if hasLoneSurrogate(raw) {
		return nil, odooRaise("ValueError", "channels: the escape of a lone surrogate")
	}
	switch raw[0] {
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, malformed(err)
		}
		return strings.Split(s, ""), nil
	case '{':
		var o map[string]json.RawMessage
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, malformed(err)
		}
		return slices.Sorted(maps.Keys(o)), nil
	case '[':
		var elements []json.RawMessage
		if err := json.Unmarshal(raw, &elements); err != nil {
			return nil, malformed(err)
		}
		channels := make([]string, len(elements))
		for i, e := range elements {
			if e[0] != '"' || json.Unmarshal(e, &channels[i]) != nil {
				return nil, odooRaise("Exception", "bus.Bus only string channels are allowed.")
			}
		}
		return channels, nil
	}
	return nil, odooRaise("TypeError", "'%s' object is not iterable", pythonType(raw))
}

// odooLast reads the cursor. 0 and false are the last 50 s; below 0 is everything
// retained, and null is from now on.
func odooLast(raw json.RawMessage) (after *bus.ID, recent bool, err error) {
	at := func(n int64) *bus.ID {
		id := bus.ID(max(n, 0))
		return &id
	}
	digits := string(raw)
	switch raw[0] {
	case 'n':
		return nil, false, nil
	case 'f':
		return nil, true, nil
	case 't':
		return at(1), false, nil
	case '[', '{':
		return nil, false, odooRaise("TypeError", "last: '%s' is no id", pythonType(raw))
	case '"':
		if json.Unmarshal(raw, &digits) != nil {
			return nil, false, malformed(fmt.Errorf("last"))
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil {
			return nil, false, odooRaise("Exception", "invalid input syntax for type integer: %q", clip(digits))
		}
		return at(n), false, nil // "0" too is an id here, before every other
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(digits, 64)
		switch {
		case err != nil || math.Abs(f) >= 1<<63:
			return nil, false, odooRaise("Exception", "integer out of range")
		case f != math.Trunc(f):
			return nil, false, odooRaise("Exception", "invalid input syntax for type integer: %q", clip(digits))
		}
		n = int64(f)
	}
	if n == 0 {
		return nil, true, nil
	}
	return at(n), false, nil
}

// pythonType returns Python's name for the type of a JSON value.
func pythonType(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "dict"
	case '[':
		return "list"
	case '"':
		return "str"
	case 't', 'f':
		return "bool"
	case 'n':
		return "NoneType"
	}
	if strings.ContainsAny(string(raw), ".eE") {
		return "float"
	}
	return "int"
}

// pythonTrue reports whether Python takes a JSON value as true.
func pythonTrue(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return true // a number beyond float64
	}
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}
