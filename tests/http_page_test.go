package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func httpPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/http.md")
	must(t, err)
	return string(text)
}

func TestHTTPPageIsAsItSays(t *testing.T) {
	needs(t, "curl")
	s := serve(t, pgtest.Database(t))
	steps := stepsOf(httpPage(t))
	if len(steps) < 5 {
		t.Fatalf("docs/http.md has %d commands", len(steps))
	}
	for _, step := range steps {
		cmd := exec.Command("sh", "-c", "exec "+strings.ReplaceAll(step.command, "localhost:8072", strings.TrimPrefix(s.httpURL, "http://")))
		running := &runningStep{step, begin(t, cmd)}
		running.expect(t, step.prints)
		if strings.Contains(step.command, "-sN") {
			must(t, cmd.Process.Kill()) // a stream
		} else if code := running.code(t); code != 0 {
			t.Errorf("%s: exit code %d", step.command, code)
		}
	}
}

// TestEventSourceOfABrowserGoesOnAtAnotherNode runs the script of docs/http.md in a
// browser, behind a proxy, and drains its node. What it shows must be everything, once.
func TestEventSourceOfABrowserGoesOnAtAnotherNode(t *testing.T) {
	needs(t, "chromium")
	url := pgtest.Database(t)
	var at atomic.Pointer[neturl.URL]
	proxy := &httputil.ReverseProxy{FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at.Load()) }}
	shown := make(chan string, 1_000)
	script := strings.ReplaceAll(blockBehind(t, httpPage(t), "In a browser:"), "http://localhost:8072", "")
	mux := http.NewServeMux()
	mux.Handle("/v1/", proxy)
	mux.HandleFunc("/shown", func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		shown <- string(text)
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "<!doctype html><script>let sent = Promise.resolve();\n"+
			"const show = what => sent = sent.then(() => fetch('/shown', {method: 'POST', body: JSON.stringify(what)}));\n%s</script>", script)
	})
	page := httptest.NewServer(mux)
	t.Cleanup(func() { page.CloseClientConnections(); page.Close() })
	point := func(s *served) {
		target, err := neturl.Parse(s.httpURL)
		must(t, err)
		at.Store(target)
	}

	first := serve(t, url)
	point(first)
	send(t, first.bus, jsonMessage("orders", "0"))
	browser := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--user-data-dir="+t.TempDir(), page.URL)
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has many processes
	must(t, browser.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-browser.Process.Pid, syscall.SIGKILL)
		_ = browser.Wait()
	})

	var got []string
	told := map[string]int{}
	until := func(count int) {
		t.Helper()
		for deadline := time.After(3 * longest); len(got) < count; {
			select {
			case text := <-shown:
				var what struct {
					Payload json.RawMessage
					At      *int64
					Missing json.RawMessage
					Error   *struct{ Reason string }
				}
				must(t, json.Unmarshal([]byte(text), &what))
				switch {
				case what.Payload != nil:
					got = append(got, string(what.Payload))
				case what.At != nil:
					told["position"]++
				case what.Error != nil:
					told[what.Error.Reason]++
				default:
					t.Errorf("the page shows %s", text)
				}
			case <-deadline:
				t.Fatalf("the page has shown %v, %v", got, told)
			}
		}
	}
	var want []string
	more := func(s *served, count int) {
		for range count {
			text := fmt.Sprint(len(want))
			if text != "0" { // which is there
				send(t, s.bus, jsonMessage("orders", text))
			}
			want = append(want, text)
		}
	}
	more(first, 10)
	until(len(want))
	second := serve(t, url)
	point(second)
	first.signal(t, syscall.SIGTERM)
	if code := first.code(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	more(second, 10)
	until(len(want))
	equal(t, "shown", got, want)
	if told["DRAINING"] != 1 || told["position"] < 3 {
		t.Errorf("the page was told %v", told)
	}
}
