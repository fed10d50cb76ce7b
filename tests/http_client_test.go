package tests

import (
	"bufio"
	"io"
	"net/http"
	neturl "net/url"
	"strconv"
	"strings"
	"testing"
)

// An asking is one request of the HTTP side; Header is name and value by turns.
type asking struct {
	method, path, body string
	header             []string
}

// asks makes a request and returns its answer with the whole body.
func (n *node) asks(t testing.TB, a asking) (*http.Response, string) {
	t.Helper()
	resp := n.open(t, a)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(body)
}

// open makes a request; the caller closes the answer's body. A POST is JSON if it does
// not say otherwise.
func (n *node) open(t testing.TB, a asking) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(short(t), a.method, n.base+a.path, strings.NewReader(a.body))
	must(t, err)
	if a.method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(a.header); i += 2 {
		if a.header[i] == "Host" {
			req.Host = a.header[i+1]
		}
		req.Header.Set(a.header[i], a.header[i+1])
	}
	resp, err := n.web.Do(req)
	must(t, err)
	return resp
}

func (n *node) post(t testing.TB, path, body string) (code int, answer string) {
	t.Helper()
	resp, answer := n.asks(t, asking{method: "POST", path: path, body: body})
	return resp.StatusCode, answer
}

func (n *node) fetch(t testing.TB, path string) (code int, answer string) {
	t.Helper()
	resp, answer := n.asks(t, asking{method: "GET", path: path})
	return resp.StatusCode, answer
}

func query(channels []string, after int64) string {
	return neturl.Values{"channels": channels, "after": {strconv.FormatInt(after, 10)}}.Encode()
}

// A lineStream reads /v1/subscribe line by line.
type lineStream struct {
	t    testing.TB
	resp *http.Response
	r    *bufio.Reader
}

func (n *node) lines(t testing.TB, path string) *lineStream {
	t.Helper()
	resp := n.open(t, asking{method: "GET", path: path})
	t.Cleanup(func() { resp.Body.Close() })
	return &lineStream{t, resp, bufio.NewReader(resp.Body)}
}

func (l *lineStream) next() string {
	l.t.Helper()
	line, err := l.r.ReadString('\n')
	if err != nil {
		l.t.Fatalf("%v after %q", err, line)
	}
	return strings.TrimSuffix(line, "\n")
}

func (l *lineStream) close() { l.resp.Body.Close() }
