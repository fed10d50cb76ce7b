package robust

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/tests/process"
	"github.com/postbus/postbus/tests/proxy"
)

// longest bounds every single wait for a process. It is no assertion about speed.
const longest = time.Minute

// A node is a `postbus serve` that can be killed, drained and started again. Each life
// has ports of its own: whoever uses a node asks for its present life.
type node struct {
	name    string
	network *proxy.Proxy
	flags   []string
	program string // "": POSTBUS_ROBUST_PROGRAM, or else the one that process builds

	mu      sync.Mutex // guards what follows
	present *life      // nil: it is down
	said    []string   // by its earlier lives
}

// A life is one process of a node.
type life struct {
	*process.Process
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
	cmd, err := n.command()
	if err != nil {
		return nil, err
	}
	p, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	l := &life{Process: p}
	at, err := l.Serving(ctx)
	if err == nil {
		err = l.connect(at)
	}
	if err != nil {
		l.Kill()
		n.keep(l)
		return nil, err
	}
	return l, nil
}

// command returns the node's process, not started.
func (n *node) command() (*exec.Cmd, error) {
	args := append([]string{"serve", "--database-url", n.network.URL, "--window-bytes", "1048576", "--pool-size", "6"}, process.ServingFlags()...)
	args = append(args, n.flags...)
	var cmd *exec.Cmd
	if path := cmp.Or(n.program, os.Getenv("POSTBUS_ROBUST_PROGRAM")); path != "" {
		cmd = exec.Command(path, args...)
		cmd.Env = process.Environment()
	} else {
		var err error
		if cmd, err = process.Command(args...); err != nil {
			return nil, err
		}
	}
	cmd.WaitDelay = longest
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

func (l *life) connect(to process.Addresses) (err error) {
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
	said := l.Stderr.String()
	if code := l.Cmd.ProcessState.ExitCode(); code != 0 && (code != 1 || !strings.Contains(said, "\npostbus: stop within ")) {
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
	if err := l.Cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("node %s: %v: %w", n.name, signal, err)
	}
	select {
	case <-l.Exited:
	case <-time.After(longest):
		l.Kill()
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
	text := l.Stderr.String()
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
		text += n.present.Stderr.String()
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
