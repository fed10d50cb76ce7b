//go:build unix

package sink

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
)

// takeJSON walks over a response of the JSON form, one whole, and returns how many
// notifications it has. No payload here has what a notification begins with.
func (r *reader) takeJSON(body []byte) (notifications int, err error) {
	r.responses++
	body = bytes.TrimRight(body, "\n")
	at := bytes.LastIndex(body, []byte(`],"last":`))
	if at < 0 || !bytes.HasPrefix(body, []byte(`{"notifications":[`)) || !bytes.HasSuffix(body, []byte("}")) {
		return 0, fmt.Errorf("no response of the JSON form: %.200q", body)
	}
	last, err := strconv.ParseInt(string(body[at+len(`],"last":`):len(body)-1]), 10, 64)
	if err != nil { // a gap, too
		return 0, fmt.Errorf("last: %w", err)
	}
	begin := []byte(`{"id":`)
	for rest := body[:at]; ; notifications++ {
		_, behind, found := bytes.Cut(rest, begin)
		if !found {
			break
		}
		end := max(0, bytes.IndexByte(behind, ','))
		id, err := strconv.ParseInt(string(behind[:end]), 10, 64)
		if err == nil {
			err = r.next(id)
		}
		if err != nil {
			return notifications, err
		}
		rest = behind[end:]
	}
	if notifications > 0 {
		r.filled++
	}
	if last < r.last {
		return notifications, fmt.Errorf("last %d behind %d", last, r.last)
	}
	r.last = last
	return notifications, nil
}

// takeEvents reads server-sent events, and goes on while more of them have come. It
// returns how many notifications they were.
func (r *reader) takeEvents(in *bufio.Reader) (notifications int, err error) {
	for {
		name, id, err := nextEvent(in)
		switch {
		case err != nil:
			return notifications, err
		case name == "":
			if err := r.next(id); err != nil {
				return notifications, err
			}
			notifications++
		case name != "position":
			return notifications, fmt.Errorf("event %q", name)
		}
		if in.Buffered() == 0 {
			break
		}
	}
	r.responses++
	if notifications > 0 {
		r.filled++
	}
	return notifications, nil
}

// nextEvent reads one event, which must have an id and data.
func nextEvent(in *bufio.Reader) (name string, id int64, err error) {
	id = -1
	data := false
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		field, value, _ := bytes.Cut(line[:len(line)-1], []byte(": "))
		switch string(field) {
		case "":
			if id < 0 || !data {
				return "", 0, fmt.Errorf("event %q: id %d, data %t", name, id, data)
			}
			return name, id, nil
		case "event":
			name = string(value)
		case "id":
			if id, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return "", 0, err
			}
		case "data":
			data = true
		default:
			return "", 0, fmt.Errorf("line %.200q", line)
		}
	}
}
