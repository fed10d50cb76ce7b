package tests

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/process"
)

// TestChromium has a real browser read: its own EventSource and WebSocket, fetch, and the
// JavaScript client with its fall-backs forced, while the program is killed and started again,
// from a page of an origin that is listed and of one that is not: G2, G3, G4. The example's page, too.
func TestChromium(t *testing.T) {
	t.Parallel()
	needs(t, "node", "chromium")
	if _, err := os.Stat("browser/node_modules/playwright-core"); err != nil {
		t.Fatal("playwright-core is missing; tests/install installs it")
	}
	pages := http.NewServeMux()
	pages.Handle("/client/", http.StripPrefix("/client/", http.FileServer(http.Dir(filepath.Join(javaScriptClient, "src")))))
	for _, folder := range []string{"/examples/web/", "/clients/js/src/"} { // as a server of the repository's files has them
		pages.Handle(folder, http.StripPrefix(folder, http.FileServer(http.Dir(filepath.Join("..", filepath.FromSlash(folder))))))
	}
	pages.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><title>a page</title>"))
	})
	origin := httptest.NewServer(pages)
	t.Cleanup(origin.Close)
	// The same server by another name is another origin, which is not listed.
	foreign := strings.Replace(origin.URL, "127.0.0.1", "localhost", 1)

	scripts := exec.Command("node", "--no-warnings", "--test-force-exit", "--test", "chromium.test.js")
	scripts.Dir = "browser"
	scripts.Env = append(process.Environment(), "POSTBUS_ORIGIN="+origin.URL, "POSTBUS_FOREIGN_ORIGIN="+foreign)
	scripts.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	(&stage{url: pgtest.Database(t), flags: []string{"--cors-origins", origin.URL}}).play(t, scripts)
}
