package tests

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestOdooFlagsReachTheRoutes(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	cmd := command(t, "serve", "--database-url", url, "--odoo-version", "16", "--odoo-database", "shop", "--retention", "1h")
	cmd.Env = append(cmd.Env, "POSTBUS_ODOO_SEND=true")
	s := serveWith(t, cmd)
	post := func(path, body string) string {
		t.Helper()
		resp, err := s.http.Post(s.httpURL+path, "application/json", strings.NewReader(body))
		must(t, err)
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		return string(text)
	}
	if got := post("/longpolling/send", `{"params":{"channel":"a","message":7}}`); got != `{"jsonrpc":"2.0","id":null}` {
		t.Errorf("send: %s", got)
	}
	want := `{"jsonrpc":"2.0","id":null,"result":{"notifications":[{"id":1,"message":{"type":"","payload":7}}],"channels":[["shop","a"],["shop","broadcast"]]}}`
	until(t, "the message is there", func() bool {
		return post("/websocket/peek_notifications", `{"params":{"channels":["a"],"last":-1}}`) == want
	})
}
