package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// startNginx runs Debian's nginx, its defaults but for what config, a part of its http
// block, says.
func startNginx(t *testing.T, config string) {
	t.Helper()
	const nginx = "/usr/sbin/nginx" // not on every user's PATH
	needs(t, nginx)
	folder := t.TempDir()
	file := filepath.Join(folder, "nginx.conf")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
    access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
%[2]s
}
`, folder, config), 0o600))
	begin(t, exec.Command(nginx, "-p", folder, "-c", file))
}

// nginxBlocks are the parts of a page that are for nginx.
func nginxBlocks(t *testing.T, page string, want int) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	for _, found := range regexp.MustCompile("(?s)```nginx\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, found[1])
	}
	if len(blocks) != want {
		t.Fatalf("%s has %d blocks of nginx's, want %d", page, len(blocks), want)
	}
	return blocks
}

// vacant returns an address that nobody listens on.
func vacant(t *testing.T) string {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

// replaced replaces each old, which must be there, by the new behind it.
func replaced(t *testing.T, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("%q is not in\n%s", oldnew[i], text)
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}

// A behind is a program behind nginx, asked by the name that the page has.
type behind struct {
	*served
	web string // nginx's
	bus postbusv1.BusServiceClient
}

func (b *behind) request(t *testing.T, method, path, body string, header ...string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+b.web+path, strings.NewReader(body))
	must(t, err)
	req.Host = "bus.example"
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// stream opens one of HTTP's.
func (b *behind) stream(t *testing.T, path string, header ...string) *http.Response {
	t.Helper()
	resp, err := (&http.Client{Transport: b.http.Transport}).Do(b.request(t, "GET", path, "", header...)) // without its timeout
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// asks makes a request; code 0 is none's.
func (b *behind) asks(t *testing.T, method, path, body string, header ...string) (code int, answer string) {
	t.Helper()
	resp, err := b.http.Do(b.request(t, method, path, body, header...))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(text)
}

// socket opens a WebSocket, or returns why not.
func (b *behind) socket(t *testing.T, path string) (*websocket.Conn, error) {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(short(t), "ws://"+b.web+path, http.Header{"Host": {"bus.example"}, "Origin": {"http://bus.example"}})
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		must(t, conn.SetReadDeadline(time.Now().Add(4*patience)))
	}
	return conn, err
}

// TestBehindNginx holds what docs/operations.md says of nginx, with what it shows and with a
// proxy_pass alone: what is quiet stays open, what comes is given at once. nginx's own
// time-outs are a minute; here they are 3 s, and in the long tests theirs.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	block := nginxBlocks(t, "../docs/operations.md", 1)[0]
	plain := "server { listen 80; location / { proxy_pass http://127.0.0.1:8072; } }\n" +
		"server { listen 81 http2; location / { grpc_pass grpc://127.0.0.1:8073; } }\n"
	for name, c := range map[string]struct {
		config     string
		documented bool
	}{"as it comes": {plain, false}, "as the page says": {block, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, pgtest.Database(t), "--allowed-hosts", "bus.example")
			b := &behind{served: s, web: vacant(t)}
			rpc := vacant(t)
			config := replaced(t, c.config, "listen 80;", "listen "+b.web+";", "listen 81 http2;", "listen "+rpc+" http2;",
				"http://127.0.0.1:8072", s.httpURL, "127.0.0.1:8073", s.grpcAddr)
			if os.Getenv("POSTBUS_TEST_LONG") == "" {
				config = "proxy_read_timeout 3s; grpc_read_timeout 3s;\n" + config
			}
			startNginx(t, config)
			until(t, "nginx serves", func() bool { code, _ := b.asks(t, "GET", "/v1/poll?channels=a&timeout=0s", ""); return code == 200 })
			conn, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
			must(t, err)
			t.Cleanup(func() { conn.Close() })
			b.bus = postbusv1.NewBusServiceClient(conn)
			for what, test := range map[string]func(*testing.T, *behind, bool){
				"lines": quietLines, "events": quietEvents, "WebSocket": quietSocket, "gRPC": quietStream, "polls": quietPolls,
				"Odoo": quietOdoo, "large": largeSends, "pages": ownPages,
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					test(t, b, c.documented)
				})
			}
		})
	}
}

// quiet is a heartbeat, and how many of them nginx's time-out must outlast.
func quiet() (heartbeat time.Duration, beats int) {
	if os.Getenv("POSTBUS_TEST_LONG") == "" {
		return time.Second, 5
	}
	return 20 * time.Second, 4
}

// outlasts reads heartbeats, then sends a message, which must come before anything else does.
func (b *behind) outlasts(t *testing.T, channel string, next func() string) {
	t.Helper()
	_, beats := quiet()
	var a answer
	for range 1 + beats {
		must(t, json.Unmarshal([]byte(next()), &a))
		if len(a.Notifications) > 0 {
			t.Fatalf("%+v before anything was sent", a)
		}
	}
	id := send(t, b.bus, jsonMessage(channel, `"at once"`))
	for a.Last < id {
		must(t, json.Unmarshal([]byte(next()), &a))
	}
	if fmt.Sprint(a.texts()) != "[at once]" {
		t.Errorf("%+v", a)
	}
}
