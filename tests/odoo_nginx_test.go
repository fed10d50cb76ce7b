package tests

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// TestOdooBehindNginxAsThePageSays runs nginx with what docs/odoo.md shows.
func TestOdooBehindNginxAsThePageSays(t *testing.T) {
	t.Parallel()
	nginx := "/usr/sbin/nginx" // not on every user's PATH
	needs(t, nginx)
	page, err := os.ReadFile("../docs/odoo.md")
	must(t, err)
	blocks := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of nginx's", len(blocks))
	}
	s := serve(t, pgtest.Database(t), "--allowed-hosts", "shop.example")
	inside := strings.TrimPrefix(s.httpURL, "http://")
	location := strings.ReplaceAll(blocks[0][1], "127.0.0.1:8072", inside)
	if !strings.Contains(location, inside) {
		t.Fatal("the page leads elsewhere than to --http-addr's default")
	}
	free := listen(t)
	outside := free.Addr().String()
	free.Close()
	folder := t.TempDir()
	config := filepath.Join(folder, "nginx.conf")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
    access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
    %[2]s
    server {
        listen %[3]s; server_name shop.example;
        %[4]s
        location / { return 418; } # Odoo itself
    }
}
`, folder, blocks[1][1], outside, location), 0o600))
	begin(t, exec.Command(nginx, "-p", folder, "-c", config))

	ask := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(short(t), method, "http://"+outside+path, strings.NewReader(body))
		must(t, err)
		req.Host = "shop.example"
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Origin", "http://shop.example") // as browsers do for their own server, too
		}
		resp, err := s.http.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(text)
	}
	until(t, "nginx serves", func() bool { code, _ := ask("GET", "/", ""); return code == 418 })
	for _, path := range []string{"/longpolling/health", "/websocket/health"} {
		if code, text := ask("GET", path, ""); code != 200 || text != `{"status": "pass"}` {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	for path, want := range map[string]string{
		"/longpolling/poll":              `"result":{"notifications":[]`,
		"/longpolling/im_status":         `"code":100`,
		"/longpolling/send":              `"code":404`,
		"/websocket/peek_notifications":  `"result":{"notifications":[]`,
		"/websocket/update_bus_presence": `"result":{}`,
		"/websocket/on_closed":           `{"jsonrpc":"2.0","id":null}`,
		"/bus/has_missed_notifications":  `"result":false`,
		"/bus/get_autovacuum_info":       `"lastcall"`,
	} {
		if code, text := ask("POST", path, `{"params":{"channels":["a"],"last":0,"last_notification_id":0,"options":{"peek":true}}}`); code != 200 && path != "/longpolling/send" || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want %s", path, code, text, want)
		}
	}
	for _, path := range []string{"/web", "/bus/other", "/longpolling/", "/websockets", "/v1/send"} {
		if code, text := ask("POST", path, `{}`); code != 418 {
			t.Errorf("%s is no route of Odoo's bus: %d %s", path, code, text)
		}
	}
}
