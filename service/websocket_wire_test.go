package service_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A rawSocket is a WebSocket of which every byte is ours.
type rawSocket struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

const (
	opContinuation, opText, opBinary, opClose, opPing, opPong = 0, 1, 2, 8, 9, 10

	fin = 0x80
)

func (n *node) rawSocket(t *testing.T, query string) rawSocket {
	t.Helper()
	conn, err := net.Dial("tcp", n.http.Listener.Addr().String())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(longest)))
	_, err = fmt.Fprintf(conn, "GET /v1/subscribe%s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
		query, n.http.Listener.Addr())
	must(t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	must(t, err)
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	return rawSocket{t, conn, r}
}

// frame returns a masked frame; first is its first byte.
func frame(first byte, payload []byte) []byte {
	mask := [4]byte{1, 2, 3, 4}
	b := []byte{first}
	switch size := len(payload); {
	case size < 126:
		b = append(b, 0x80|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(size))
	}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func (ws rawSocket) write(frames ...[]byte) {
	ws.t.Helper()
	// Whoever is refused in the middle may have hung up; what it answered shows.
	_, _ = ws.conn.Write(bytes.Join(frames, nil))
}

func (ws rawSocket) read() (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(ws.r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0x70 != 0 || head[0]&fin == 0 || head[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("a frame that begins %x", head)
	}
	size := uint64(head[1])
	switch size {
	case 126:
		var long [2]byte
		_, err = io.ReadFull(ws.r, long[:])
		size = uint64(binary.BigEndian.Uint16(long[:]))
	case 127:
		var long [8]byte
		_, err = io.ReadFull(ws.r, long[:])
		size = binary.BigEndian.Uint64(long[:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(ws.r, payload)
	return head[0] & 0x0f, payload, err
}

// heard reads frames up to the close frame, says "close" to it, and waits for the end of the
// connection: each frame in short.
func (ws rawSocket) heard() string {
	ws.t.Helper()
	var said []string
	for {
		op, payload, err := ws.read()
		if err != nil {
			ws.t.Fatalf("after %v: %v", said, err)
		}
		said = append(said, inShort(op, payload))
		if op == opClose {
			ws.write(frame(fin|opClose, payload))
			_, _ = io.Copy(io.Discard, ws.r)
			return strings.Join(said, " ")
		}
	}
}

func (ws rawSocket) expect(want string) {
	ws.t.Helper()
	op, payload, err := ws.read()
	must(ws.t, err)
	if got := inShort(op, payload); got != want {
		ws.t.Fatalf("got %s %s, want %s", got, payload, want)
	}
}

func inShort(op byte, payload []byte) string {
	switch op {
	case opText:
		var f serverFrame
		switch err := json.Unmarshal(payload, &f); {
		case err != nil:
			return err.Error()
		case f.Ack != nil:
			return "ack"
		case f.Error != nil:
			return f.Error.Reason
		case f.Last != nil:
			return "last"
		}
	case opPong:
		return fmt.Sprintf("pong(%s)", payload)
	case opClose:
		if len(payload) == 0 {
			return "close"
		}
		if len(payload) >= 2 {
			return fmt.Sprint("close ", binary.BigEndian.Uint16(payload))
		}
	}
	return fmt.Sprintf("%d:%q", op, payload)
}

// padded returns a good frame of just so many bytes.
func padded(size int) []byte {
	const around = `{"_":"","subscribe":{"channels":["a"]}}`
	return []byte(`{"_":"` + strings.Repeat("x", size-len(around)) + `","subscribe":{"channels":["a"]}}`)
}

// Every frame that RFC 6455 has, and those that it forbids.
func TestSocketKeepsToRFC6455(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	good := []byte(`{"subscribe":{"channels":["é"]}}`)
	code := func(code uint16, text string) []byte {
		return append(binary.BigEndian.AppendUint16(nil, code), text...)
	}
	bye := frame(fin|opClose, code(1000, "bye"))
	unmasked := append([]byte{fin | opText, byte(len(good))}, good...)
	for name, c := range map[string]struct {
		said [][]byte
		want string
	}{
		"a frame":                   {[][]byte{frame(fin|opText, good), bye}, "ack last close 1000"},
		"close without a code":      {[][]byte{frame(fin|opClose, nil)}, "close"},
		"close with a private code": {[][]byte{frame(fin|opClose, code(4999, ""))}, "close 4999"},
		"a ping":                    {[][]byte{frame(fin|opPing, []byte("hé"))}, "pong(hé)"},
		"a ping of 125 bytes":       {[][]byte{frame(fin|opPing, bytes.Repeat([]byte("p"), 125))}, "pong(" + strings.Repeat("p", 125) + ")"},
		"an empty ping":             {[][]byte{frame(fin|opPing, nil)}, "pong()"},
		"a pong nobody asked for":   {[][]byte{frame(fin|opPong, []byte("x")), frame(fin|opText, good), bye}, "ack last close 1000"},
		"fragments, one of them empty": {[][]byte{frame(opText, good[:3]), frame(opContinuation, good[3:28]),
			frame(opContinuation, nil), frame(fin|opContinuation, good[28:]), bye}, "ack last close 1000"},
		"a message after one in fragments": {[][]byte{frame(opText, good[:3]), frame(fin|opContinuation, good[3:]), frame(fin|opText, good), bye}, "ack last ack last close 1000"},

		"an unmasked frame":                {[][]byte{unmasked}, "close 1002"},
		"an unmasked frame, and much more": {[][]byte{unmasked, make([]byte, 8<<20)}, "close 1002"},
		"RSV1":                             {[][]byte{frame(fin|0x40|opText, good)}, "close 1002"},
		"RSV2":                             {[][]byte{frame(fin|0x20|opText, good)}, "close 1002"},
		"RSV3 of a ping":                   {[][]byte{frame(fin|0x10|opPing, nil)}, "close 1002"},
		"an opcode of data":                {[][]byte{frame(fin|3, nil)}, "close 1002"},
		"an opcode of control":             {[][]byte{frame(fin|11, nil)}, "close 1002"},
		"continuation without a start":     {[][]byte{frame(fin|opContinuation, good)}, "close 1002"},
		"text within a message":            {[][]byte{frame(opText, good[:3]), frame(fin|opText, good)}, "close 1002"},
		"a ping of 126 bytes":              {[][]byte{frame(fin|opPing, make([]byte, 126))}, "close 1002"},
		"a ping in fragments":              {[][]byte{frame(opPing, nil)}, "close 1002"},
		"a close in fragments":             {[][]byte{frame(opClose, nil)}, "close 1002"},
		"close with half a code":           {[][]byte{frame(fin|opClose, []byte{3})}, "close"},
		"close with a reserved code":       {[][]byte{frame(fin|opClose, code(1005, ""))}, "close 1002"},
		"close with a code below 1000":     {[][]byte{frame(fin|opClose, code(999, ""))}, "close 1002"},
		"close with text not UTF-8":        {[][]byte{frame(fin|opClose, code(1000, "\xff"))}, "close 1002"},

		"text not UTF-8":                        {[][]byte{frame(fin|opText, []byte("\"\xc3\x28\""))}, "MALFORMED_JSON close 1007"},
		"half a character in the last fragment": {[][]byte{frame(opText, []byte("\"é")), frame(fin|opContinuation, []byte("\xc3"))}, "MALFORMED_JSON close 1007"},
		"a surrogate":                           {[][]byte{frame(fin|opText, []byte("\"\xed\xa0\x80\""))}, "MALFORMED_JSON close 1007"},
		"a binary frame":                        {[][]byte{frame(fin|opBinary, good)}, "INVALID_FIELD close 1003"},
		"a binary frame, then a close":          {[][]byte{frame(fin|opBinary, good), bye}, "INVALID_FIELD close 1003"},
		"1 MiB":                                 {[][]byte{frame(fin|opText, padded(1<<20)), bye}, "ack last close 1000"},
		"1 MiB in fragments":                    {[][]byte{frame(opText, padded(1 << 20)[:1<<19]), frame(fin|opContinuation, padded(1 << 20)[1<<19:]), bye}, "ack last close 1000"},
		"1 MiB and a byte":                      {[][]byte{frame(fin|opText, padded(1<<20+1))}, "TOO_LARGE close 1009"},
		"1 MiB and a byte in fragments":         {[][]byte{frame(opText, padded(1<<20)), frame(fin|opContinuation, []byte{'x'})}, "TOO_LARGE close 1009"},
		"a frame of 2^63 bytes":                 {[][]byte{{fin | opText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}}, "TOO_LARGE close 1009"},
		"a frame that claims 2^62 bytes":        {[][]byte{{fin | opText, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, padded(1<<20 + 1)}, "TOO_LARGE close 1009"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := n.rawSocket(t, "")
			ws.write(c.said...)
			if strings.HasPrefix(c.want, "pong") {
				ws.expect(c.want)
				return
			}
			if got := ws.heard(); got != c.want {
				t.Errorf("heard %s, want %s", got, c.want)
			}
		})
	}
}

// A ping within a message is answered before the message is there.
func TestSocketAnswersPingsWithinAMessage(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	ws := n.rawSocket(t, "")
	text := []byte(`{"subscribe":{"channels":["a"]}}`)
	for i := range text {
		first := byte(opContinuation)
		if i == 0 {
			first = opText
		}
		ws.write(frame(first, text[i:i+1]), frame(fin|opPing, fmt.Append(nil, i)))
		ws.expect(fmt.Sprintf("pong(%d)", i))
	}
	ws.write(frame(fin|opContinuation, nil))
	ws.expect("ack")
	ws.expect("last")
}

// Behind an end of the server's comes a last response, and then the code.
func TestSocketIsGivenItsLastBeforeItEnds(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	ws := n.rawSocket(t, "?channels=a")
	ws.expect("last")
	ws.write(frame(fin|opBinary, nil))
	if got := ws.heard(); got != "INVALID_FIELD last close 1003" {
		t.Error(got)
	}
	ws = n.rawSocket(t, "?channels=a")
	ws.expect("last")
	n.service.Drain()
	n.dispatcher.Drain()
	if got := ws.heard(); got != "last close 1012" {
		t.Error(got)
	}
	ws = n.rawSocket(t, "") // later ones are refused
	if got := ws.heard(); got != "DRAINING close 1012" {
		t.Error(got)
	}
	ws = n.rawSocket(t, "?channels=a")
	if got := ws.heard(); got != "DRAINING close 1012" {
		t.Error(got)
	}
}

// A client that hangs up without a word leaves nothing behind.
func TestSocketThatHangsUpIsLetGo(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	for _, query := range []string{"", "?channels=a"} {
		ws := n.rawSocket(t, query)
		until(t, "it is open", func() bool { return n.service.Stats().OpenStreams == 1 })
		must(t, ws.conn.Close())
		until(t, "it is let go", func() bool { return n.service.Stats().OpenStreams == 0 && n.dispatcher.State().Subscriptions == 0 })
	}
}
