//go:build unix

package main

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
)

// startBareWeb serves a bareWeb for the test and returns its address.
func startBareWeb(t *testing.T) (*bareWeb, string) {
	t.Helper()
	b, end, err := newBareWeb()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: b}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		end()
	})
	return b, listener.Addr().String()
}

func TestEveryReaderByHTTPGetsEveryPreparedMessage(t *testing.T) {
	for over, ways := range map[string][]string{
		overPolls:   {wayParked},
		overEvents:  {wayStrict, wayPlain},
		overSockets: {wayStrict, wayPlain},
	} {
		t.Run(over, func(t *testing.T) {
			const readers = 60
			b, addr := startBareWeb(t)
			s, reached := startTestSink(t, sinkPlan{Target: addr, Over: over, Readers: readers, Channel: "a"})
			sent := int64(0)
			for _, way := range ways {
				for _, count := range []int{1, 32, 1} {
					sent += int64(count)
					s.until(sent * readers)
					if err := b.send(way, count); err != nil {
						t.Fatal(err)
					}
					await(t, s, reached)
				}
			}
			if err := s.check(sent); err != nil {
				t.Error(err)
			}
			if err := s.check(sent + 1); err == nil {
				t.Error("every reader has got what nobody sent")
			}
		})
	}
}

func TestReaderRefusesJSONThatIsNotNewOrNotWhole(t *testing.T) {
	p := newWebPress()
	b, err := p.burst(3)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(b.answer)
	r := &reader{}
	if n, err := r.takeJSON(b.answer); n != 3 || err != nil || r.last != p.id {
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
