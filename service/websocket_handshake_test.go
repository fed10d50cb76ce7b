package service_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

// A handshake that is none is refused by HTTP.
func TestHandshakesOfSocketsAreChecked(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	for _, c := range []struct {
		method, body, version, key string
		status                     int
		reason                     string
	}{
		{"GET", "", "8", key, 426, service.ReasonNotImplemented},
		{"GET", "", "", key, 426, service.ReasonNotImplemented},
		{"GET", "", "13", "", 400, service.ReasonInvalidField},
		{"GET", "", "13", "short", 400, service.ReasonInvalidField},
		{"GET", "x", "13", key, 400, service.ReasonInvalidField},
		{"POST", `{"channels":["a"]}`, "13", key, 405, service.ReasonMethodNotAllowed},
		{"PUT", "", "13", key, 405, service.ReasonMethodNotAllowed},
	} {
		resp, answer := n.do(t, c.method, "/v1/subscribe", c.body, "Connection", "Upgrade", "Upgrade", "websocket",
			"Sec-WebSocket-Version", c.version, "Sec-WebSocket-Key", c.key)
		loadSchemas(t).check(t, "Error", answer)
		if resp.StatusCode != c.status || !bytes.Contains(answer, []byte(`"reason":"`+c.reason+`"`)) {
			t.Errorf("%+v: %s %s", c, resp.Status, answer)
		}
		if c.status == 426 && (resp.Header.Get("Sec-WebSocket-Version") != "13" || resp.Header.Get("Upgrade") != "websocket") {
			t.Errorf("%+v: %v", c, resp.Header)
		}
	}
	// HTTP/1.0 has no upgrade.
	conn, err := net.Dial("tcp", n.http.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(longest)))
	_, err = fmt.Fprintf(conn, "GET /v1/subscribe HTTP/1.0\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", key)
	must(t, err)
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, io.EOF) || !bytes.Contains(answer, []byte(" 501 ")) {
		t.Errorf("%s %v", answer, err)
	}
}
