//go:build unix

package rig

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

// A Node is `postbus serve` as a process.
type Node struct {
	*Process
	GRPCAddr string
	HTTPAddr string
	admin    string // URL of the admin listener
}

// StartNode starts a node on the database, with more variables (NAME=VALUE), and returns
// when it is ready.
func (r *Rig) StartNode(ctx context.Context, databaseURL string, env ...string) (*Node, error) {
	addrs, err := FreeAddrs(3)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, r.program, "serve", "--log-level", "warn",
		"--http-addr", addrs[0], "--grpc-addr", addrs[1], "--admin-addr", addrs[2])
	cmd.Env = append(append(os.Environ(), env...), "POSTBUS_DATABASE_URL="+databaseURL)
	p, err := StartProcess(cmd)
	if err != nil {
		return nil, err
	}
	n := &Node{Process: p, GRPCAddr: addrs[1], HTTPAddr: addrs[0], admin: "http://" + addrs[2]}
	if err := n.Until(ctx, "ready", func() bool { return n.Ready(ctx) == nil }); err != nil {
		return nil, errors.Join(err, n.End())
	}
	return n, nil
}

// Ready returns an error unless the node says that it is ready.
func (n *Node) Ready(ctx context.Context) error {
	_, err := n.ask(ctx, http.MethodGet, "/readyz")
	return err
}

// UntilAsleep waits until the node has nothing to do and waits for the bell.
func (n *Node) UntilAsleep(ctx context.Context) error {
	return n.Until(ctx, "asleep", func() bool {
		asleep, err := n.Metric(ctx, "postbus_tail_sleeping")
		return err == nil && asleep == 1
	})
}

// Resident returns the node's memory once it has given back what it does not use. Pools
// outlive one collection.
func (n *Node) Resident(ctx context.Context) (float64, error) {
	for range 2 {
		if _, err := n.ask(ctx, http.MethodPost, "/debug/free"); err != nil {
			return 0, err
		}
	}
	return residentBytes(n.PID())
}

// Metric returns the value of a metric without labels.
func (n *Node) Metric(ctx context.Context, name string) (float64, error) {
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
func (n *Node) ask(ctx context.Context, method, path string) (string, error) {
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

// FreeAddrs finds n loopback addresses that nothing listens on.
func FreeAddrs(n int) ([]string, error) {
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
