package tests

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The opcodes of RFC 6455.
const (
	opMore   = 0x0
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa
)

// An odooSocket is a client of /websocket frame by frame, which may send what no library
// would.
type odooSocket struct {
	conn net.Conn
	in   *bufio.Reader
}

// odooHandshake opens a connection and sends the handshake of Odoo's client; changes are
// names and values of headers, by turns, and "" leaves one out.
func (n *node) odooHandshake(t testing.TB, method, path string, changes ...string) (*http.Response, *odooSocket) {
	t.Helper()
	addr := strings.TrimPrefix(n.base, "http://")
	conn, err := net.DialTimeout("tcp", addr, longest)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(longest)))
	headers := [][2]string{
		{"Host", addr}, {"Connection", "keep-alive, Upgrade"}, {"Upgrade", "websocket"}, {"Origin", "https://shop.example"},
		{"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, {"User-Agent", "Mozilla/5.0"},
		{"Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"}, {"Cookie", "session_id=0123"},
	}
	text := method + " " + path + " HTTP/1.1\r\n"
	for _, header := range headers {
		value := header[1]
		for i := 0; i < len(changes); i += 2 {
			if changes[i] == header[0] {
				value = changes[i+1]
			}
		}
		if value != "" {
			text += header[0] + ": " + value + "\r\n"
		}
	}
	_, err = io.WriteString(conn, text+"\r\n")
	must(t, err)
	s := &odooSocket{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(s.in, nil)
	must(t, err)
	return resp, s
}

// odooSocket opens a socket.
func (n *node) odooSocket(t testing.TB) *odooSocket {
	t.Helper()
	resp, s := n.odooHandshake(t, "GET", "/websocket?version=17.0-1")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake: %s", resp.Status)
	}
	return s
}

// odooFrame returns a masked frame; first is its first byte.
func odooFrame(first byte, payload string) []byte {
	frame := []byte{first}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	case n < 1<<16:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	frame = append(frame, mask[:]...)
	for i := range len(payload) {
		frame = append(frame, payload[i]^mask[i%4])
	}
	return frame
}

// write sends frames as they are. The server may have had enough.
func (s *odooSocket) write(frames ...[]byte) {
	for _, frame := range frames {
		if _, err := s.conn.Write(frame); err != nil {
			return
		}
	}
}

func (s *odooSocket) text(payload string) { s.write(odooFrame(0x80|opText, payload)) }

// subscribe sends the frame of Odoo's client.
func (s *odooSocket) subscribe(last int64, channels ...string) {
	list, _ := json.Marshal(append([]string{}, channels...))
	s.text(fmt.Sprintf(`{"event_name":"subscribe","data":{"channels":%s,"last":%d}}`, list, last))
}

// frame reads one frame of the server, which is whole and not masked.
func (s *odooSocket) frame(t testing.TB) (op byte, payload string) {
	t.Helper()
	op, payload, err := s.read()
	must(t, err)
	return op, payload
}

func (s *odooSocket) read() (op byte, payload string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, "", err
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 != 0 {
		return 0, "", fmt.Errorf("a frame begins with %x", head)
	}
	size := uint64(head[1])
	var long [8]byte
	switch size {
	case 126:
		_, err = io.ReadFull(s.in, long[6:])
		size = binary.BigEndian.Uint64(long[:])
	case 127:
		_, err = io.ReadFull(s.in, long[:])
		size = binary.BigEndian.Uint64(long[:])
	}
	if err != nil {
		return 0, "", err
	}
	data := make([]byte, size)
	_, err = io.ReadFull(s.in, data)
	return head[0] & 0xf, string(data), err
}

// expect reads the next frame.
func (s *odooSocket) expect(t testing.TB, op byte, payload string) {
	t.Helper()
	if gotOp, got := s.frame(t); gotOp != op || got != payload {
		t.Fatalf("got frame %x %.300q\nwant %x %.300q", gotOp, got, op, payload)
	}
}

// handled waits until the server has handled all that was sent, by a ping.
func (s *odooSocket) handled(t testing.TB) {
	t.Helper()
	s.write(odooFrame(0x80|opPing, "done?"))
	s.expect(t, opPong, "done?")
}

// ids reads a frame of notifications and returns their ids.
func (s *odooSocket) ids(t testing.TB) (ids []int64) {
	t.Helper()
	op, payload := s.frame(t)
	if op != opText {
		t.Fatalf("got frame %x %q, want notifications", op, payload)
	}
	return odooIDs(t, payload)
}

// odooIDs returns the ids of an array of notifications, which ascend and are not none.
func odooIDs(t testing.TB, payload string) (ids []int64) {
	t.Helper()
	var notifications []struct {
		ID      int64 `json:"id"`
		Message struct {
			Type    *string         `json:"type"`
			Payload json.RawMessage `json:"payload"`
		} `json:"message"`
	}
	if err := json.Unmarshal([]byte(payload), &notifications); err != nil || len(notifications) == 0 {
		t.Fatalf("not an array of notifications, or an empty one: %.300q", payload)
	}
	for _, n := range notifications {
		if n.Message.Type == nil || n.Message.Payload == nil || len(ids) > 0 && n.ID <= ids[len(ids)-1] {
			t.Fatalf("no notification, or no higher one: %d in %.300q", n.ID, payload)
		}
		ids = append(ids, n.ID)
	}
	return ids
}

// closed reads to the end of the socket: the code and the reason of the close frame, 0
// without one.
func (s *odooSocket) closed(t testing.TB) (code int, reason string) {
	t.Helper()
	for {
		op, payload, err := s.read()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatalf("the socket stays open: %v", err)
			}
			return 0, ""
		}
		if op == opClose {
			if _, err := s.in.ReadByte(); err == nil {
				t.Error("a frame behind the close frame")
			}
			if payload == "" {
				return 1005, ""
			}
			return int(binary.BigEndian.Uint16([]byte(payload))), payload[2:]
		}
	}
}
