//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A node is `postbus serve` as a process.
type node struct {
	*process
	grpcAddr string
	httpAddr string
	admin    string // URL of the admin listener
}

// startNode starts a node on the database, with more variables (NAME=VALUE), and returns
// when it is ready.
func (r *rig) startNode(ctx context.Context, databaseURL string, env ...string) (*node, error) {
	addrs, err := freeAddrs(3)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, r.program, "serve", "--log-level", "warn",
		"--http-addr", addrs[0], "--grpc-addr", addrs[1], "--admin-addr", addrs[2])
	cmd.Env = append(append(os.Environ(), env...), "POSTBUS_DATABASE_URL="+databaseURL)
	p, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	n := &node{process: p, grpcAddr: addrs[1], httpAddr: addrs[0], admin: "http://" + addrs[2]}
	if err := n.until(ctx, "ready", func() bool { return n.ready(ctx) == nil }); err != nil {
		return nil, errors.Join(err, n.end())
	}
	return n, nil
}

// ready returns an error unless the node says that it is ready.
func (n *node) ready(ctx context.Context) error {
	_, err := n.ask(ctx, http.MethodGet, "/readyz")
	return err
}

// untilAsleep waits until the node has nothing to do and waits for the bell.
func (n *node) untilAsleep(ctx context.Context) error {
	return n.until(ctx, "asleep", func() bool {
		asleep, err := n.metric(ctx, "postbus_tail_sleeping")
		return err == nil && asleep == 1
	})
}

// resident returns the node's memory once it has given back what it does not use. Pools
// outlive one collection.
func (n *node) resident(ctx context.Context) (float64, error) {
	for range 2 {
		if _, err := n.ask(ctx, http.MethodPost, "/debug/free"); err != nil {
			return 0, err
		}
	}
	return residentBytes(n.pid())
}

// metric returns the value of a metric without labels.
func (n *node) metric(ctx context.Context, name string) (float64, error) {
	text, err := n.ask(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("/metrics: no %s", name)
}

// ask sends a request to the admin listener.
func (n *node) ask(ctx context.Context, method, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, n.admin+path, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return string(text), err
}

// freeAddrs finds n loopback addresses that nothing listens on.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // not before all are found: they must differ
		addrs[i] = listener.Addr().String()
	}
	return addrs, nil
}
