package odoo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

const (
	// maxMessage bounds a client's message, as Odoo does.
	maxMessage = 1 << 20
	// smallMessage needs no room of the requests' budget.
	smallMessage = 4 << 10
)

// An arrival is a client's message as it comes. What it takes above smallMessage is taken of
// the room that all requests share, until release.
type arrival struct {
	core Core
	room int64
}

// read reads a message to its end.
func (a *arrival) read(from io.Reader) ([]byte, error) {
	data := make([]byte, 0, 512)
	for {
		if len(data) == cap(data) {
			if more := int64(2 * cap(data)); more > smallMessage {
				if !a.core.TakeRoom(more) {
					return nil, overloaded
				}
				a.room += more
			}
			data = append(make([]byte, 0, 2*cap(data)), data...)
		}
		n, err := from.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (a *arrival) release() {
	a.core.GiveRoom(a.room)
	a.room = 0
}

// A subscribing is what a client's subscribe frame asks for.
type subscribing struct {
	channels []string
	last     last
}

// A last is the newest id that a client says it has: 0, with recent, is none.
type last struct {
	id     bus.ID
	recent bool // the last 50 s instead
}

// readFrame reads a client's frame: nil without an error is an event that changes nothing
// here. Errors say what Odoo's server would log.
func readFrame(data []byte) (*subscribing, error) {
	var frame map[string]json.RawMessage
	if err := json.Unmarshal(data, &frame); err != nil || frame == nil {
		return nil, errors.New("not a JSON object")
	}
	raw := frame["event_name"]
	if len(raw) == 0 || raw[0] != '"' {
		return nil, errors.New("event_name: missing, or not a string")
	}
	if text(raw) != "subscribe" {
		return nil, nil // update_presence, and what other modules of Odoo listen to
	}
	var with map[string]json.RawMessage
	if raw = frame["data"]; len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &with) != nil {
		return nil, errors.New("data: missing, or not an object")
	}
	channels, err := subscribedChannels(with["channels"])
	if err != nil {
		return nil, err
	}
	newest, err := subscribedLast(with["last"])
	if err != nil {
		return nil, err
	}
	return &subscribing{channels, newest}, nil
}

func subscribedChannels(raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, errors.New("channels: missing, or not an array")
	}
	if jsonform.HasLoneSurrogate(raw) {
		return nil, errors.New("channels: the escape of a lone surrogate")
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return nil, fmt.Errorf("channels: %w", err)
	}
	channels := make([]string, len(elements))
	for i, e := range elements {
		if e[0] != '"' {
			return nil, fmt.Errorf("channels[%d]: only string channels are allowed", i)
		}
		channels[i] = text(e)
	}
	return channels, nil
}

// subscribedLast reads a number as Odoo compares it: below 0 is everything retained, and
// false and true are 0 and 1.
func subscribedLast(raw json.RawMessage) (last, error) {
	if len(raw) == 0 {
		return last{}, errors.New("last: missing")
	}
	var n int64
	switch raw[0] {
	case 'n', '"', '[', '{':
		return last{}, errors.New("last: not a number")
	case 'f':
	case 't':
		n = 1
	default:
		var err error
		if n, err = strconv.ParseInt(string(raw), 10, 64); err != nil {
			f, _ := strconv.ParseFloat(string(raw), 64) // beyond float64 it is infinite
			switch f = math.Floor(f); {
			case f >= math.MaxInt64:
				n = math.MaxInt64
			case f < math.MinInt64:
				n = math.MinInt64
			default:
				n = int64(f)
			}
		}
	}
	return last{id: bus.ID(max(n, 0)), recent: n == 0}, nil
}
