package tests

import (
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service/odoo"
)

const mib = 1 << 20

// TestOdooSocketEndsWithTheCodesOfOdoo: the codes are measured; of a breach of the protocol
// the reason is the library's own.
func TestOdooSocketEndsWithTheCodesOfOdoo(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	closing := func(payload string) [][]byte { return [][]byte{odooFrame(0x80|opClose, payload)} }
	for name, c := range map[string]struct {
		frames [][]byte
		code   int
		reason string // "*": any
	}{
		"close with a reason":     {closing("\x03\xe8bye"), 1000, "bye"},
		"close of an application": {closing("\x10\xe1x"), 4321, "x"},
		"empty close":             {closing(""), 1000, ""},
		"invalid close code":      {closing("\x03\xed"), 1002, "*"},
		"close of no UTF-8":       {closing("\x03\xe8\xff"), 1002, "*"},
		"not masked":              {[][]byte{{0x80 | opText, 2, '{', '}'}}, 1002, "*"},
		"reserved bit":            {[][]byte{odooFrame(0xc0|opText, "{}")}, 1002, "*"},
		"unknown opcode":          {[][]byte{odooFrame(0x80|3, "")}, 1002, "*"},
		"stray continuation":      {[][]byte{odooFrame(0x80|opMore, "{}")}, 1002, "*"},
		"text within a text":      {[][]byte{odooFrame(opText, "{"), odooFrame(0x80|opText, "}")}, 1002, "*"},
		"large ping":              {[][]byte{odooFrame(0x80|opPing, strings.Repeat("x", 126))}, 1002, "*"},
		"ping in parts":           {[][]byte{odooFrame(opPing, "x")}, 1002, "*"},
		"no UTF-8":                {[][]byte{odooFrame(0x80|opText, "{\"\xff\":1}")}, 1007, ""},
		"no UTF-8 over parts":     {[][]byte{odooFrame(opText, "\"\xc3"), odooFrame(0x80|opMore, "\"")}, 1007, ""},
		"more than 1 MiB":         {[][]byte{odooFrame(0x80|opText, strings.Repeat(" ", mib+1))}, 1009, ""},
		"more than 1 MiB in parts": {[][]byte{
			odooFrame(opText, strings.Repeat(" ", mib/2)), odooFrame(opMore, strings.Repeat(" ", mib/2)), odooFrame(0x80|opMore, " "),
		}, 1009, ""},
		"eleven frames": {repeated(11, odooFrame(0x80|opText, "{}")), 1013, ""},
		"eleven pings":  {repeated(11, odooFrame(0x80|opPing, "")), 1013, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := n.odooSocket(t)
			s.write(c.frames...)
			if code, reason := s.closed(t); code != c.code || reason != c.reason && c.reason != "*" {
				t.Errorf("ended with %d %q, want %d %q", code, reason, c.code, c.reason)
			}
		})
	}
	until(t, "all are gone", func() bool { return n.service.Stats().OpenStreams == 0 })
}

func repeated(times int, frame []byte) (frames [][]byte) {
	for range times {
		frames = append(frames, frame)
	}
	return frames
}

func TestOdooSocketTakesWhatRFC6455Allows(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	frame := `{"event_name":"subscribe","data":{"channels":["grüße","b"],"last":0}}`
	for name, frames := range map[string][][]byte{
		"whole":     {odooFrame(0x80|opText, frame)},
		"in binary": {odooFrame(0x80|opBinary, frame)},
		"in parts with a ping": {
			odooFrame(opText, frame[:51]), odooFrame(0x80|opPing, "between"), odooFrame(opMore, ""), odooFrame(0x80|opMore, frame[51:]), // within the ü
		},
		"of exactly 1 MiB": {odooFrame(0x80|opText, frame+strings.Repeat(" ", mib-len(frame)))},
		"of exactly 1 MiB in parts": {
			odooFrame(opText, frame+strings.Repeat(" ", mib/2-len(frame))), odooFrame(0x80|opMore, strings.Repeat(" ", mib/2)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := n.odooSocket(t)
			s.write(frames...)
			if len(frames) == 4 {
				s.expect(t, opPong, "between")
			}
			n.send(t, jsonMessage("other", "0"), jsonMessage("grüße", `{"x":1}`))
			op, payload := s.frame(t)
			if op != opText || !strings.Contains(payload, `{"x":1}`) {
				t.Errorf("got frame %x %q", op, payload)
			}
		})
	}
}

func TestOdooSocketsEndWith1001WhenTheNodeStops(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	idle, reading, stalled := n.odooSocket(t), n.odooSocket(t), n.odooSocket(t)
	reading.subscribe(0, "a")
	reading.handled(t)
	stalled.subscribe(0, "large")
	stalled.handled(t)
	n.send(t, message("large", strings.Repeat("x", 900_000)))
	n.send(t, message("a", "sent before"))
	if ids := reading.ids(t); ids[0] != 2 {
		t.Errorf("got %d", ids)
	}
	n.stop() // fails if a socket is left
	for name, s := range map[string]*odooSocket{"idle": idle, "subscribed": reading} {
		if code, reason := s.closed(t); code != 1001 || reason != "" {
			t.Errorf("%s: ended with %d %q", name, code, reason)
		}
	}
}

func TestOdooSocketAboveTheBoundOfReadersIsTold(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{MaxReaders: 2})
	first := n.odooSocket(t)
	first.handled(t)
	second := n.odooSocket(t)
	second.handled(t)
	if code, _ := n.odooSocket(t).closed(t); code != 1013 {
		t.Errorf("the third of two: ended with %d, want 1013", code)
	}
	if refused := n.service.Stats().Faults["TOO_MANY_READERS"]; refused != 1 {
		t.Errorf("%d counted", refused)
	}
	for range 5 { // its channels change on the place that it has
		first.subscribe(0, "a")
	}
	first.handled(t)
	second.conn.Close()
	until(t, "there is room", func() bool { return n.service.Stats().OpenStreams == 1 })
	n.odooSocket(t).handled(t)
}

func TestOdooSocketOfAnOutdatedBundleIsToldSo(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{Odoo: odoo.Options{Version: 17}})
	for path, accepted := range map[string]bool{
		"/websocket?version=17.0-1": true, "/websocket?version=16.0-1": false, "/websocket": false,
	} {
		_, s := n.odooHandshake(t, "GET", path)
		if accepted {
			s.handled(t)
			continue
		}
		s.subscribe(0, "a") // as a client does that has just been opened to
		if code, reason := s.closed(t); code != 1000 || reason != "OUTDATED_VERSION" {
			t.Errorf("%s: ended with %d %q", path, code, reason)
		}
		_, s = n.odooHandshake(t, "GET", path, "User-Agent", "")
		s.handled(t)
	}
}

// TestOdooSocketLetsAClientReadWhyItEnds: who is still sending is not reset, since a reset may
// take the close frame with it.
func TestOdooSocketLetsAClientReadWhyItEnds(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	s := n.odooSocket(t)
	frame := odooFrame(0x80|opText, strings.Repeat(" ", 4*mib))
	for len(frame) > 0 {
		sent, err := s.conn.Write(frame[:min(len(frame), 64<<10)])
		must(t, err)
		frame = frame[sent:]
	}
	if code, _ := s.closed(t); code != 1009 {
		t.Errorf("ended with %d, want 1009", code)
	}
}
