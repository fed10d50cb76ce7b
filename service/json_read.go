package service

import (
	"encoding/base64"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
)

// A jsonReader reads requests of the JSON form: ids as numbers or decimal strings,
// durations as "1.5s", null as absent but in payload, which stays as it stands. Members
// that it does not know, or that come twice, are refused by name.
type jsonReader struct {
	limits *bus.Limits
}

// readableDepth is how deep a body may nest to be read at all, below where
// encoding/json gives up (10,000). A payload that is deeper than the limit is refused by
// its own name.
const readableDepth = 9_000

func (r jsonReader) text(data []byte) (*jsonText, error) {
	return newJSONText(data, readableDepth)
}

// send reads the body of POST /v1/send.
func (r jsonReader) send(data []byte, into *postbusv1.SendRequest) error {
	t, err := r.text(data)
	if err != nil {
		return err
	}
	return t.members("", func(name, at string) (bool, error) {
		if name != "messages" {
			return false, nil
		}
		return true, t.elements(at, func(at string) error {
			if len(into.Messages) == r.limits.MaxMessages {
				return bus.Invalid(bus.TooLarge, "messages", "more than %d messages, at most %[1]d", r.limits.MaxMessages)
			}
			m := new(postbusv1.Message)
			into.Messages = append(into.Messages, m)
			return r.message(t, at, m)
		})
	})
}

func (r jsonReader) message(t *jsonText, at string, m *postbusv1.Message) error {
	return t.members(at, func(name, at string) (known bool, err error) {
		known = true
		switch name {
		case "channel":
			m.Channel, _, err = t.text(at)
		case "type":
			m.Type, _, err = t.text(at)
		case "key":
			m.Key, _, err = t.text(at)
		case "payload":
			if m.Body != nil {
				return true, errTwoBodies(at)
			}
			m.Body = &postbusv1.Message_Json{Json: string(t.raw())}
		case "binary":
			var data []byte
			var present bool
			if data, present, err = readBinary(t, at); present && m.Body != nil {
				return true, errTwoBodies(at)
			} else if present {
				m.Body = &postbusv1.Message_Binary{Binary: data}
			}
		case "headers":
			m.Headers, err = r.headers(t, at)
		case "ttl":
			m.Ttl, err = readDuration(t, at)
		default:
			known = false
		}
		return known, err
	})
}

func errTwoBodies(at string) error {
	return bus.Invalid(bus.InvalidField, at, "payload and binary exclude each other")
}

// headers reads an object of strings. Every name is the client's own, "_" included;
// null removes none: a header without a value is refused.
func (r jsonReader) headers(t *jsonText, at string) (map[string]string, error) {
	opened, err := t.open(at, '{', "an object")
	if err != nil || !opened {
		return nil, err
	}
	headers := make(map[string]string)
	for t.more() {
		name, err := t.name(at)
		if err != nil {
			return nil, err
		}
		member := fmt.Sprintf("%s[%q]", at, clip(name))
		if _, twice := headers[name]; twice {
			return nil, bus.Invalid(bus.InvalidField, member, "named twice")
		}
		value, present, err := t.text(member)
		if err != nil {
			return nil, err
		}
		if !present {
			return nil, bus.Invalid(bus.InvalidField, member, "null, must be a string")
		}
		if len(headers) > r.limits.MaxHeaders {
			return nil, bus.Invalid(bus.InvalidField, at, "more than %d entries, at most %[1]d", r.limits.MaxHeaders)
		}
		headers[name] = value
	}
	t.close()
	return headers, nil
}

// poll reads the body of POST /v1/poll.
func (r jsonReader) poll(data []byte, into *postbusv1.PollRequest) error {
	t, err := r.text(data)
	if err != nil {
		return err
	}
	return t.members("", func(name, at string) (known bool, err error) {
		known = true
		switch name {
		case "channels":
			into.Channels, err = r.channels(t, at)
		case "after":
			into.After, err = readID(t, at)
		case "timeout":
			into.Timeout, err = readDuration(t, at)
		case "max":
			into.Max, err = readCount(t, at)
		default:
			known = false
		}
		return known, err
	})
}

// subscribe reads the body of POST /v1/subscribe.
func (r jsonReader) subscribe(data []byte, into *postbusv1.SubscribeRequest) error {
	t, err := r.text(data)
	if err != nil {
		return err
	}
	return r.walking(t, "", into)
}

// walking reads what a stream asks for, the object at path.
func (r jsonReader) walking(t *jsonText, path string, into *postbusv1.SubscribeRequest) error {
	return t.members(path, func(name, at string) (known bool, err error) {
		known = true
		switch name {
		case "channels":
			into.Channels, err = r.channels(t, at)
		case "after":
			into.After, err = readID(t, at)
		case "heartbeat":
			into.Heartbeat, err = readDuration(t, at)
		default:
			known = false
		}
		return known, err
	})
}

func (r jsonReader) channels(t *jsonText, at string) ([]string, error) {
	var channels []string
	err := t.elements(at, func(element string) error {
		if len(channels) == r.limits.MaxChannels {
			return bus.Invalid(bus.InvalidField, at, "more than %d channels, at most %[1]d", r.limits.MaxChannels)
		}
		channel, present, err := t.text(element)
		if err == nil && !present {
			err = bus.Invalid(bus.InvalidField, element, "null, must be a string")
		}
		channels = append(channels, channel)
		return err
	})
	return channels, err
}

// readID reads an id, a whole number or the string of one; null is absent.
func readID(t *jsonText, at string) (_ *int64, err error) {
	raw := t.raw()
	if isNull(raw) {
		return nil, nil
	}
	digits := string(raw)
	if raw[0] == '"' {
		if digits, err = unquote(at, raw); err != nil {
			return nil, err
		}
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.HasPrefix(digits, "+") {
		return nil, bus.Invalid(bus.InvalidField, at, "%s, must be a whole number up to 2^63-1, or the string of one", clip(string(raw)))
	}
	return &id, nil
}

// readCount reads a whole number; null is absent.
func readCount(t *jsonText, at string) (*int32, error) {
	raw := t.raw()
	if isNull(raw) {
		return nil, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil {
		return nil, bus.Invalid(bus.InvalidField, at, "%s, must be a whole number", clip(string(raw)))
	}
	count := int32(n)
	return &count, nil
}

// secondsText is a duration of the JSON form, as postbus.send_messages reads it.
var secondsText = regexp.MustCompile(`^-?[0-9]{1,12}([.][0-9]{1,9})?s$`)

// readDuration reads "1.5s"; null is absent.
func readDuration(t *jsonText, at string) (*durationpb.Duration, error) {
	text, present, err := t.text(at)
	if err != nil || !present {
		return nil, err
	}
	if !secondsText.MatchString(text) {
		return nil, bus.Invalid(bus.InvalidField, at, `%q, must be seconds such as "1.5s"`, clip(text))
	}
	d, err := time.ParseDuration(text)
	if err != nil { // beyond the 292 years that it can say
		d = math.MaxInt64
		if text[0] == '-' {
			d = math.MinInt64
		}
	}
	return durationpb.New(d), nil
}

// readBinary reads base64, of the standard or the URL alphabet, with or without padding,
// of which there may be any amount, as in postbus.send_messages; null is absent.
func readBinary(t *jsonText, at string) ([]byte, bool, error) {
	text, present, err := t.text(at)
	if err != nil || !present {
		return nil, false, err
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	if strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		return nil, false, bus.Invalid(bus.InvalidField, at, "not base64: a line break")
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, false, bus.Invalid(bus.InvalidField, at, "not base64: %v", err)
	}
	return data, true, nil
}
