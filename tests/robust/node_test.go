package robust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// longest bounds every single wait for a process. It is no assertion about speed.
const longest = time.Minute

// A node is a `postbus serve` that can be killed, drained and started again. Each life
// has ports of its own: whoever uses a node asks for its present life.
type node struct {
	name    string
	proxy   *proxy
	flags   []string
	program string // "": programPath's

	mu      sync.Mutex // guards what follows
	present *life      // nil: it is down
	said    []string   // by its earlier lives
}

// A life is one process of a node.
type life struct {
	cmd     *exec.Cmd
	out     output
	exited  chan struct{}
	err     error // of Wait, once exited is closed
	httpURL string
	admin   string
	conn    *grpc.ClientConn
	bus     postbusv1.BusServiceClient
	web     *http.Client
}

// up returns the present life, nil when the node is down.
func (n *node) up() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.present
}

// start starts the node; its database may be away, then it is tried again until ctx ends.
func (n *node) start(ctx context.Context) error {
	for {
		l, err := n.launch(ctx)
		if err == nil {
			n.mu.Lock()
			n.present = l
			n.mu.Unlock()
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("start node %s: %w", n.name, err)
		}
	}
}

// launch starts a process and waits until it says where it listens.
func (n *node) launch(ctx context.Context) (*life, error) {
	path := n.program
	if path == "" {
		var err error
		if path, err = programPath(); err != nil {
			return nil, err
		}
	}
	args := append([]string{
		"serve", "--database-url", n.proxy.url, "--log-format", "json", "--window-bytes", "1048576", "--pool-size", "6",
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
	}, n.flags...)
	l := &life{cmd: exec.Command(path, args...), exited: make(chan struct{})}
	l.cmd.Env, l.cmd.WaitDelay = environment(), longest
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		l.err = l.cmd.Wait()
		close(l.exited)
	}()
	if err := l.listening(ctx); err != nil {
		_ = l.cmd.Process.Kill() // it may have ended
		<-l.exited
		n.keep(l)
		return nil, err
	}
	return l, nil
}

// listening waits for the log's line that says where the node listens.
func (l *life) listening(ctx context.Context) error {
	for {
		text, grown := l.out.next()
		if addresses, ok := servingLine(text); ok {
			return l.connect(addresses)
		}
		select {
		case <-grown:
		case <-l.exited:
			return fmt.Errorf("it ended: %w", errors.Join(l.err, errors.New(text)))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type addresses struct{ Msg, HTTP, GRPC, Admin string }

func servingLine(text string) (found addresses, ok bool) {
	for line := range strings.Lines(text) {
		if json.Unmarshal([]byte(line), &found) == nil && found.Msg == "serving" {
			return found, true
		}
	}
	return found, false
}

func (l *life) connect(to addresses) (err error) {
	l.httpURL, l.admin = "http://"+to.HTTP, "http://"+to.Admin
	l.conn, err = grpc.NewClient(to.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	l.bus = postbusv1.NewBusServiceClient(l.conn)
	l.web = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	return nil
}

// kill ends the node at once, as a machine does that loses its power.
func (n *node) kill() error { return n.end(syscall.SIGKILL) }

// drain ends the node as an operator does, and wants exit code 0; 1 if a reader that stalls
// could not be given its last in time, which is no clean stop and says so.
func (n *node) drain() error {
	l := n.up()
	if l == nil {
		return nil
	}
	if err := n.end(syscall.SIGTERM); err != nil {
		return err
	}
	said, _ := l.out.next()
	if code := l.cmd.ProcessState.ExitCode(); code != 0 && (code != 1 || !strings.Contains(said, "\npostbus: stop within ")) {
		return fmt.Errorf("node %s: exit code %d after SIGTERM", n.name, code)
	}
	return nil
}

func (n *node) end(signal syscall.Signal) error {
	n.mu.Lock()
	l := n.present
	n.present = nil
	n.mu.Unlock()
	if l == nil {
		return nil
	}
	defer n.keep(l)
	if err := l.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("node %s: %v: %w", n.name, signal, err)
	}
	select {
	case <-l.exited:
	case <-time.After(longest):
		_ = l.cmd.Process.Kill() // it may have ended by now
		<-l.exited
		return fmt.Errorf("node %s does not end after %v", n.name, signal)
	}
	return nil
}

// keep keeps what a life has said, and gives back what it took.
func (n *node) keep(l *life) {
	if l.conn != nil {
		l.conn.Close()
		l.web.CloseIdleConnections()
	}
	text, _ := l.out.next()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = append(n.said, text)
}

// log returns what all lives have said.
func (n *node) log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := strings.Join(n.said, "")
	if n.present != nil {
		now, _ := n.present.out.next()
		text += now
	}
	return text
}

// page fetches a page of the admin listener.
func (l *life) page(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.admin+path, nil)
	if err != nil {
		return "", err
	}
	response, err := l.web.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// metric returns the value of a metric without labels.
func (l *life) metric(ctx context.Context, name string) (value float64, err error) {
	page, err := l.page(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err := fmt.Sscan(rest, &value)
			return value, err
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
