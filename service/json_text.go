package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

const jsonType = "application/json"

// A jsonText walks through one JSON text, which is valid as a whole before the walk
// begins, so that what is left to refuse is what the text says. Its errors are
// *bus.InvalidError with the path of the member.
type jsonText struct {
	data []byte
	dec  *json.Decoder
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
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return &jsonText{data: data, dec: dec}, nil
}

// members calls member with each name of the object at path, and the path of its
// value, which member reads; it returns false for a name it does not know. Names that
// begin with "_" are skipped. null is an object without members.
func (t *jsonText) members(path string, member func(name, at string) (known bool, err error)) error {
	opened, err := t.open(path, '{', "an object")
	if err != nil || !opened {
		return err
	}
	var seen map[string]struct{}
	for t.dec.More() {
		name, err := t.name(path)
		if err != nil {
			return err
		}
		at := shown(name)
		if path != "" {
			at = path + "." + at
		}
		if strings.HasPrefix(name, "_") {
			if _, err := t.raw(); err != nil {
				return err
			}
			continue
		}
		if _, twice := seen[name]; twice {
			return bus.Invalid(bus.InvalidField, at, "named twice")
		}
		if seen == nil {
			seen = make(map[string]struct{})
		}
		seen[name] = struct{}{}
		known, err := member(name, at)
		if err != nil {
			return err
		}
		if !known {
			return errUnknownMember(at)
		}
	}
	return t.close()
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
	for i := 0; t.dec.More(); i++ {
		if err := element(fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return t.close()
}

// open reads the beginning of an array or an object; null is none.
func (t *jsonText) open(path string, delim json.Delim, what string) (bool, error) {
	tok, err := t.dec.Token()
	switch {
	case err != nil:
		return false, malformed(err)
	case tok == nil:
		return false, nil
	case tok != delim:
		return false, bus.Invalid(bus.InvalidField, orBody(path), "%s, must be %s", kindOf(tok), what)
	}
	return true, nil
}

func (t *jsonText) close() error {
	if _, err := t.dec.Token(); err != nil {
		return malformed(err)
	}
	return nil
}

// name reads the name of a member.
func (t *jsonText) name(path string) (string, error) {
	before := t.dec.InputOffset()
	tok, err := t.dec.Token()
	if err != nil {
		return "", malformed(err)
	}
	if jsonform.HasLoneSurrogate(t.data[before:t.dec.InputOffset()]) {
		return "", bus.Invalid(bus.InvalidField, orBody(path), "a member's name has the escape of a lone surrogate")
	}
	name, _ := tok.(string)
	return name, nil
}

// raw reads the next value as it stands; the bytes are its own.
func (t *jsonText) raw() (json.RawMessage, error) {
	var raw json.RawMessage
	if err := t.dec.Decode(&raw); err != nil {
		return nil, malformed(err)
	}
	return raw, nil
}

// text reads a string; null is absent.
func (t *jsonText) text(path string) (s string, present bool, err error) {
	raw, err := t.raw()
	if err != nil || isNull(raw) {
		return "", false, err
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

func kindOf(tok json.Token) string {
	switch tok := tok.(type) {
	case json.Delim:
		if tok == '{' {
			return "an object"
		}
		return "an array"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case nil:
		return "null"
	}
	return "a number"
}

// clip shortens what a refusal repeats of a client's own text.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
