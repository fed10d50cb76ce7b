//go:build unix

package sink

import (
	"bufio"
	"strings"
	"testing"
)

func TestReaderRefusesJSONThatIsNotNewOrNotWhole(t *testing.T) {
	const whole = `{"notifications":[{"id":5,"channel":"a"},{"id":7,"channel":"a"},{"id":300,"channel":"a"}],"last":301}` + "\n"
	r := &reader{}
	if n, err := r.takeJSON([]byte(whole)); n != 3 || err != nil || r.count != 3 || r.last != 301 {
		t.Fatalf("%d taken, last %d, %v", n, r.last, err)
	}
	for name, c := range map[string]struct{ body, want string }{
		"twice":    {whole, "behind"},
		"cut":      {whole[:len(whole)-3], "no response"},
		"a gap":    {`{"notifications":[],"last":1,"gap":{}}`, "last:"},
		"an error": {`{"error":{"code":3}}`, "no response"},
		"back":     {`{"notifications":[],"last":1}`, "last 1 behind"},
		"no id":    {`{"notifications":[{"id":"x","a":1}],"last":1}`, "invalid syntax"},
	} {
		if _, err := r.takeJSON([]byte(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestReaderRefusesEventsThatAreNotNewOrNotWhole(t *testing.T) {
	for name, c := range map[string]struct{ stream, want string }{
		"twice":   {"id: 5\ndata: {}\n\nid: 5\ndata: {}\n\n", "id 5 behind 5"},
		"a gap":   {"event: gap\nid: 5\ndata: {}\n\n", `event "gap"`},
		"no id":   {"data: {}\n\n", "id -1"},
		"no data": {"id: 5\n\n", "data false"},
		"cut":     {"id: 5\nda", "EOF"},
		"fault":   {"retry: 1\nevent: fault\ndata: {}\n\n", `line "retry`},
	} {
		_, err := new(reader).takeEvents(bufio.NewReader(strings.NewReader(c.stream)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	const stream = "event: position\nid: 0\ndata: {}\n\nid: 5\ndata: {}\n\nid: 7\ndata: {}\n\n"
	r := &reader{}
	if n, err := r.takeEvents(bufio.NewReader(strings.NewReader(stream))); n != 2 || err != nil || r.count != 2 || r.last != 7 {
		t.Errorf("%d taken, %v, %+v", n, err, r)
	}
}
