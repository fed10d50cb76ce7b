package service

import (
	"encoding/json"
	"errors"
	"time"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
)

// A clientFrame is what a client of a WebSocket says: a change of its channels. Every one is
// answered once, in order, by an ack or by an error.
type clientFrame struct {
	request   string // the client's own name of it
	removes   bool   // channels; else they are added
	channels  []string
	after     *bus.ID
	heartbeat time.Duration // 0: as it was

	err  error // what it is refused for
	ends error // why it is the last one
}

// maxRequestName bounds the bytes of a frame's request.
const maxRequestName = 255

// readClientFrame reads a frame of the JSON form. A refusal has the frame's request, wherever
// that stands.
func (s *Service) readClientFrame(data []byte) (f clientFrame) {
	var adds, removes json.RawMessage
	f.request, adds, removes, f.err = jsonReader{&s.limits}.clientFrame(data)
	switch {
	case f.err != nil:
	case adds != nil && removes != nil:
		f.err = bus.Invalid(bus.InvalidField, "unsubscribe", "beside subscribe, must be one of them")
	case adds != nil:
		f.err = s.readSubscribe(adds, &f)
	case removes != nil:
		f.removes = true
		f.err = s.readUnsubscribe(removes, &f)
	default:
		f.err = bus.Invalid(bus.InvalidField, "subscribe", "absent, must be there or unsubscribe")
	}
	return f
}

// clientFrame reads the members of a frame; null is absent.
func (r jsonReader) clientFrame(data []byte) (request string, adds, removes json.RawMessage, err error) {
	t, err := r.text(data)
	if err != nil {
		return "", nil, nil, err
	}
	var unknown error
	err = t.members("", func(name, at string) (bool, error) {
		if name == "request" {
			text, _, err := t.text(at)
			if len(text) > maxRequestName {
				return true, bus.Invalid(bus.InvalidField, at, "%d bytes, at most %d", len(text), maxRequestName)
			}
			request = text
			return true, err
		}
		raw := t.raw()
		switch {
		case name == "subscribe" && !isNull(raw):
			adds = raw
		case name == "unsubscribe" && !isNull(raw):
			removes = raw
		case name != "subscribe" && name != "unsubscribe" && unknown == nil:
			unknown = errUnknownMember(at)
		}
		return true, nil
	})
	if err == nil {
		err = unknown
	}
	return request, adds, removes, err
}

func (s *Service) readSubscribe(data []byte, f *clientFrame) error {
	const path = "subscribe"
	r := jsonReader{&s.limits}
	t, err := r.text(data)
	if err != nil {
		return err
	}
	var req postbusv1.SubscribeRequest
	if err := r.walking(t, path, &req); err != nil {
		return err
	}
	w, err := s.walkingOf(&req)
	if err != nil {
		return within(path, err)
	}
	f.channels, f.after = w.channels, w.after
	if req.Heartbeat != nil {
		f.heartbeat = w.heartbeat
	}
	return nil
}

func (s *Service) readUnsubscribe(data []byte, f *clientFrame) error {
	const path = "unsubscribe"
	r := jsonReader{&s.limits}
	t, err := r.text(data)
	if err != nil {
		return err
	}
	err = t.members(path, func(name, at string) (bool, error) {
		if name != "channels" {
			return false, nil
		}
		f.channels, err = r.channels(t, at)
		return true, err
	})
	if err != nil {
		return err
	}
	if vs := s.limits.CheckChannels(path+".channels", f.channels); len(vs) > 0 {
		return &bus.InvalidError{Reason: bus.InvalidField, Violations: vs}
	}
	return nil
}

// within returns err with the names of its fields below path.
func within(path string, err error) error {
	var invalid *bus.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	below := &bus.InvalidError{Reason: invalid.Reason, Violations: make([]bus.Violation, len(invalid.Violations))}
	for i, v := range invalid.Violations {
		v.Field = path + "." + v.Field
		below.Violations[i] = v
	}
	return below
}
