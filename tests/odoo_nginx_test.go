package tests

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// TestOdooBehindNginxAsThePageSays runs nginx with what docs/odoo.md shows.
func TestOdooBehindNginxAsThePageSays(t *testing.T) {
	t.Parallel()
	blocks := nginxBlocks(t, "../docs/odoo.md", 2)
	s := serve(t, pgtest.Database(t), "--allowed-hosts", "shop.example")
	outside := vacant(t)
	startNginx(t, fmt.Sprintf("%s\nserver { listen %s; server_name shop.example;\n%s\nlocation / { return 418; } # Odoo itself\n}",
		blocks[1], outside, replaced(t, blocks[0], "127.0.0.1:8072", strings.TrimPrefix(s.httpURL, "http://"))))

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
