package service

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

const jsonType = "application/json"

// A jsonText walks through one JSON text, which is valid as a whole before the walk
// begins, so that what is left to refuse is what the text says, and where a value ends is
// easily seen. Its errors are *bus.InvalidError with the path of the member.
type jsonText struct {
	data []byte
	at   int // up to here it was read
}

// newJSONText checks that data is one JSON text, of valid UTF-8 and not nested too
// deep.
func newJSONText(data []byte, maxDepth int) (*jsonText, error) {
	if !utf8.Valid(data) {
		return nil, bus.Invalid(bus.MalformedJSON, "", "the body is not valid UTF-8")
	}
	if depth := bus.JSONDepth(data); depth > maxDepth {
		return nil, bus.Invalid(bus.InvalidField, "body", "nested %d deep, at most %d", depth, maxDepth)
	}
	if !json.Valid(data) {
		return nil, bus.Invalid(bus.MalformedJSON, "", "the body is not JSON: %s", bus.JSONFault(data))
	}
	return &jsonText{data: data}, nil
}

// members calls member with each name of the object at path, and the path of its
// value, which member reads; it returns false for a name it does not know. Names that
// begin with "_" are skipped. null is an object without members.
func (t *jsonText) members(path string, member func(name, at string) (known bool, err error)) error {
	opened, err := t.open(path, '{', "an object")
	if err != nil || !opened {
		return err
	}
	seen := make([]string, 0, 8) // no more than there are names to know
	for t.more() {
		name, err := t.name(path)
		if err != nil {
			return err
		}
		at := shown(name)
		if path != "" {
			at = path + "." + at
		}
		if strings.HasPrefix(name, "_") {
			t.raw()
			continue
		}
		if slices.Contains(seen, name) {
			return bus.Invalid(bus.InvalidField, at, "named twice")
		}
		seen = append(seen, name)
		known, err := member(name, at)
		if err != nil {
			return err
		}
		if !known {
			return errUnknownMember(at)
		}
	}
	t.close()
	return nil
}

func errUnknownMember(at string) error {
	return bus.Invalid(bus.UnknownField, clip(at), "not known to this server")
}

// elements calls element for each value of the array at path, which element reads.
// null is an array without elements.
func (t *jsonText) elements(path string, element func(at string) error) error {
	opened, err := t.open(path, '[', "an array")
	if err != nil || !opened {
		return err
	}
	for i := 0; t.more(); i++ {
		if err := element(path + "[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	t.close()
	return nil
}

// open reads the beginning of an array or an object; null is none.
func (t *jsonText) open(path string, delim byte, what string) (bool, error) {
	t.skip()
	if t.data[t.at] == delim {
		t.at++
		return true, nil
	}
	raw := t.raw()
	if isNull(raw) {
		return false, nil
	}
	return false, bus.Invalid(bus.InvalidField, orBody(path), "%s, must be %s", jsonform.KindOf(raw), what)
}

// more reports whether the array or the object that was opened last goes on.
func (t *jsonText) more() bool {
	t.skip()
	return t.data[t.at] != '}' && t.data[t.at] != ']'
}

// close reads the end of an array or an object without more.
func (t *jsonText) close() { t.at++ }

// skip goes to the next value or end: between them there is nothing else.
func (t *jsonText) skip() {
	for t.at < len(t.data) {
		switch t.data[t.at] {
		case ' ', '\t', '\r', '\n', ',', ':':
			t.at++
		default:
			return
		}
	}
}

// name reads the name of a member.
func (t *jsonText) name(path string) (string, error) {
	raw := t.raw()
	if jsonform.HasLoneSurrogate(raw) {
		return "", bus.Invalid(bus.InvalidField, orBody(path), "a member's name has the escape of a lone surrogate")
	}
	return unquote(path, raw)
}

// raw reads the next value as it stands; the bytes are the text's.
func (t *jsonText) raw() json.RawMessage {
	t.skip()
	begin, depth := t.at, 0
	for {
		switch t.data[t.at] {
		case '"':
			t.skipString()
		case '{', '[':
			depth++
			t.at++
		case '}', ']':
			depth--
			t.at++
		default:
			t.skipLiteral()
		}
		if depth == 0 {
			return t.data[begin:t.at]
		}
		t.skip()
	}
}

func (t *jsonText) skipString() {
	for t.at++; t.data[t.at] != '"'; t.at++ {
		if t.data[t.at] == '\\' {
			t.at++
		}
	}
	t.at++
}

// skipLiteral goes behind a number, true, false or null.
func (t *jsonText) skipLiteral() {
	for t.at < len(t.data) && strings.IndexByte(" \t\r\n,]}", t.data[t.at]) < 0 {
		t.at++
	}
}

// text reads a string; null is absent.
func (t *jsonText) text(path string) (s string, present bool, err error) {
	raw := t.raw()
	if isNull(raw) {
		return "", false, nil
	}
	s, err = unquote(path, raw)
	return s, true, err
}

// unquote returns the string that raw is.
func unquote(path string, raw json.RawMessage) (string, error) {
	if raw[0] != '"' {
		return "", bus.Invalid(bus.InvalidField, path, "%s, must be a string", jsonform.KindOf(raw))
	}
	if jsonform.HasLoneSurrogate(raw) {
		return "", bus.Invalid(bus.InvalidField, path, "has the escape of a lone surrogate")
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", malformed(err)
	}
	return s, nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// shown is how a refusal names a member.
func shown(name string) string {
	if name == "" {
		return `""`
	}
	return clip(name)
}

// orBody names the request itself when path is empty.
func orBody(path string) string {
	if path == "" {
		return "body"
	}
	return path
}

func malformed(err error) error {
	return bus.Invalid(bus.MalformedJSON, "", "the body is not JSON: %v", err)
}

// clip shortens what a refusal repeats of a client's own text.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
