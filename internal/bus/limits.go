package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits bound what a request may hold. DefaultLimits has the documented values;
// the zero value refuses everything. The schema's send functions check the same
// rules.
type Limits struct {
	MaxBody        int // bytes of one payload
	MaxRequest     int // bytes of one send, all its messages
	MaxMessages    int // messages of one send
	MaxChannels    int // channels of one reader
	MaxName        int // bytes of a channel, a type, a key, a header's name
	MaxHeaders     int // headers of one message
	MaxHeaderBytes int // bytes of a message's header names and values
	MaxDepth       int // how deep a JSON payload nests
}

// DefaultLimits returns the limits of a server that is not configured otherwise.
func DefaultLimits() Limits {
	return Limits{
		MaxBody:        1 << 20,
		MaxRequest:     4 << 20,
		MaxMessages:    1_000,
		MaxChannels:    1_000,
		MaxName:        255,
		MaxHeaders:     64,
		MaxHeaderBytes: 4 << 10,
		MaxDepth:       1_000,
	}
}

// The beginnings of names that are kept for the bus itself.
const (
	ReservedChannels = "postbus:"
	ReservedHeaders  = "postbus-"
)

// maxViolations bounds what one refusal tells.
const maxViolations = 20

// CheckSend returns what is wrong with a send of messages, or nil; the first 20
// faults are told. A send that is too large as a whole is not looked into.
func (l *Limits) CheckSend(messages []Message) *InvalidError {
	if len(messages) == 0 {
		return Invalid(InvalidField, "messages", "none, at least 1")
	}
	if len(messages) > l.MaxMessages {
		return Invalid(TooLarge, "messages", "%d messages, at most %d", len(messages), l.MaxMessages)
	}
	size := 0
	for i := range messages {
		size += messages[i].Size()
	}
	if size > l.MaxRequest {
		return Invalid(TooLarge, "messages", "%d bytes, at most %d", size, l.MaxRequest)
	}
	reason := InvalidField
	var violations []Violation
	for i := range messages {
		m := &messages[i]
		found := l.CheckMessage(i, m)
		if len(violations) == 0 && len(found) > 0 && max(len(m.JSON), len(m.Binary)) > l.MaxBody {
			reason = TooLarge
		}
		violations = append(violations, found...)
		if len(violations) >= maxViolations {
			violations = violations[:maxViolations]
			break
		}
	}
	if len(violations) == 0 {
		return nil
	}
	return &InvalidError{Reason: reason, Violations: violations}
}

// CheckMessage returns what is wrong with m, the send's message of that index. A payload
// above MaxBody is told first.
func (l *Limits) CheckMessage(index int, m *Message) []Violation {
	var vs []Violation
	tell := func(name, fault string) {
		if fault != "" { // only then is a name made for it
			vs = append(vs, Violation{fmt.Sprintf("messages[%d].%s", index, name), fault})
		}
	}
	if m.Binary != nil {
		tell("binary", l.bodyFault(len(m.Binary)))
	} else if fault := l.bodyFault(len(m.JSON)); fault != "" {
		tell("json", fault)
	} else {
		tell("json", l.jsonFault(m.JSON))
	}
	tell("channel", l.channelFault(m.Channel))
	tell("type", l.nameFault(m.Type))
	tell("key", l.nameFault(m.Key))
	tell("headers", l.headersFault(m.Headers))
	for name, value := range m.Headers {
		if len(vs) >= maxViolations {
			break
		}
		if fault := l.headerFault(name, value); fault != "" {
			tell(fmt.Sprintf("headers[%q]", clip(name)), fault)
		}
	}
	if m.TTL < 0 {
		tell("ttl", fmt.Sprintf("%v, must be above 0s", m.TTL))
	}
	return vs
}

// CheckChannels returns what is wrong with a reader's list of channels, which the
// client wrote as field.
func (l *Limits) CheckChannels(field string, channels []string) []Violation {
	switch {
	case len(channels) == 0:
		return []Violation{{field, "none, at least 1"}}
	case len(channels) > l.MaxChannels:
		return []Violation{{field, fmt.Sprintf("%d channels, at most %d", len(channels), l.MaxChannels)}}
	}
	var vs []Violation
	for i, channel := range channels {
		if fault := l.channelFault(channel); fault != "" {
			vs = append(vs, Violation{fmt.Sprintf("%s[%d]", field, i), fault})
			if len(vs) == maxViolations {
				break
			}
		}
	}
	return vs
}

func (l *Limits) bodyFault(size int) string {
	if size > l.MaxBody {
		return fmt.Sprintf("%d bytes, at most %d", size, l.MaxBody)
	}
	return ""
}

func (l *Limits) channelFault(channel string) string {
	if channel == "" {
		return fmt.Sprintf("empty, 1 to %d bytes", l.MaxName)
	}
	return l.nameFault(channel)
}

// nameFault says what is wrong with a channel, a type, a key or a header's name,
// but for its being empty.
func (l *Limits) nameFault(name string) string {
	if len(name) > l.MaxName {
		return fmt.Sprintf("%d bytes, at most %d", len(name), l.MaxName)
	}
	if !utf8.ValidString(name) {
		return "not valid UTF-8"
	}
	for i, r := range name {
		if unicode.IsControl(r) {
			return fmt.Sprintf("control character U+%04X at byte %d, none allowed", r, i)
		}
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if unicode.Is(unicode.White_Space, first) || unicode.Is(unicode.White_Space, last) {
		return "white space at an end, none allowed"
	}
	if strings.HasPrefix(name, ReservedChannels) {
		return fmt.Sprintf("begins with %q, which is reserved", ReservedChannels)
	}
	return ""
}

func (l *Limits) headersFault(headers map[string]string) string {
	if len(headers) > l.MaxHeaders {
		return fmt.Sprintf("%d entries, at most %d", len(headers), l.MaxHeaders)
	}
	size := 0
	for name, value := range headers {
		size += len(name) + len(value)
	}
	if size > l.MaxHeaderBytes {
		return fmt.Sprintf("%d bytes in all, at most %d", size, l.MaxHeaderBytes)
	}
	return ""
}

func (l *Limits) headerFault(name, value string) string {
	switch {
	case name == "":
		return fmt.Sprintf("empty name, 1 to %d bytes", l.MaxName)
	case strings.HasPrefix(name, ReservedHeaders):
		return fmt.Sprintf("name begins with %q, which is reserved", ReservedHeaders)
	case !utf8.ValidString(value):
		return "value is not valid UTF-8"
	case strings.ContainsRune(value, 0):
		return "value holds a NUL, none allowed"
	}
	return l.nameFault(name)
}

// jsonFault says what is wrong with a JSON payload. Escapes of lone surrogates are
// legal tokens and pass.
func (l *Limits) jsonFault(text string) string {
	if !utf8.ValidString(text) {
		return "not valid UTF-8"
	}
	if depth, ok := nesting(text); ok && depth <= l.MaxDepth {
		return ""
	}
	data := []byte(text)
	if depth := JSONDepth(data); depth > l.MaxDepth {
		return fmt.Sprintf("nested %d deep, at most %d", depth, l.MaxDepth)
	}
	if !json.Valid(data) {
		return "not JSON: " + JSONFault(data)
	}
	return ""
}

// JSONFault says where and how data, which is not valid, breaks the JSON grammar.
func JSONFault(data []byte) string {
	var whole json.RawMessage
	err := json.Unmarshal(data, &whole)
	if err == nil {
		return "no fault"
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Sprintf("%v at byte %d", syntax, syntax.Offset)
	}
	return err.Error()
}

// JSONDepth returns how deep the arrays and objects of a JSON text nest: 0 for a
// scalar, 1 for []. Of a text that is not JSON it is some number.
func JSONDepth(data []byte) int {
	depth, deepest := 0, 0
	inString := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}

// clip shortens what a refusal repeats of a client's own text.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
