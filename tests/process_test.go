package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// programPath builds the program, with the race detector, once for all tests.
var programPath = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs(filepath.Join("..", "bin", "postbus-race"))
	if err != nil {
		return "", err
	}
	said, err := exec.Command("go", "build", "-race", "-o", path, "../cmd/postbus").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, said)
	}
	return path, nil
})

// patience bounds the life of a process, which starts slower than a node.
const patience = 2 * longest

// An output is what a process has written so far.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed by the next Write; nil: nobody waits
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grown != nil {
		close(o.grown)
		o.grown = nil
	}
	return o.text.Write(p)
}

// String returns what there is.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) next() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grown == nil {
		o.grown = make(chan struct{})
	}
	return o.text.String(), o.grown
}

// A program is the built program as a process.
type program struct {
	cmd            *exec.Cmd
	stdout, stderr output
	exited         chan struct{}
	err            error // of Wait, once exited is closed
}

// command returns the program with args, not started. Of this process's variables
// those of Postbus do not reach it.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := programPath()
	must(t, err)
	cmd := exec.Command(path, args...)
	cmd.Env = environment()
	cmd.WaitDelay = patience
	return cmd
}

// environment returns this process's variables without those of Postbus.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "POSTBUS_") {
			kept = append(kept, variable)
		}
	}
	return append(kept, "GORACE=atexit_sleep_ms=0")
}

// begin starts cmd. It is killed at cleanup if it still runs then.
func begin(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		if cmd.SysProcAttr != nil && cmd.SysProcAttr.Setpgid {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it started, too
		}
		<-p.exited
		said := p.stderr.String()
		if strings.Contains(said, "DATA RACE") {
			t.Errorf("%q has a data race", cmd.Args)
		}
		if t.Failed() && said != "" {
			t.Logf("%q wrote\n%s", cmd.Args, said)
		}
	})
	return p
}

// signal sends a signal.
func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v: %v", s, err)
	}
}

// code waits for the end and returns the exit code, -1 of a process that was killed.
func (p *program) code(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("%q has not ended", p.cmd.Args)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// await waits until the program has written on stderr or stdout what found finds.
func (p *program) await(t *testing.T, out *output, what string, found func(text string) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		text, grown := out.next()
		if found(text) {
			return
		}
		select {
		case <-grown:
		case <-p.exited:
			if found(out.String()) {
				return
			}
			t.Fatalf("%q ended before %s: %v", p.cmd.Args, what, p.err)
		case <-deadline:
			t.Fatalf("%q: no %s", p.cmd.Args, what)
		}
	}
}

// A result is what a program that ends by itself leaves.
type result struct {
	code           int
	stdout, stderr string
}

// run runs cmd to its end.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	p := begin(t, cmd)
	return result{p.code(t), p.stdout.String(), p.stderr.String()}
}

// A served is a process that serves: serve or dev.
type served struct {
	*program
	httpURL, adminURL, grpcAddr string

	conn *grpc.ClientConn
	bus  postbusv1.BusServiceClient
	http *http.Client
}

// serve starts a node on the database url and waits until it is healthy.
func serve(t *testing.T, url string, flags ...string) *served {
	t.Helper()
	return serveWith(t, command(t, append([]string{"serve", "--database-url", url}, flags...)...))
}

// serveWith starts cmd, a serve or a dev, on ports of its own, and waits until it is
// healthy.
func serveWith(t *testing.T, cmd *exec.Cmd) *served {
	t.Helper()
	s := listening(t, cmd)
	s.awaitHealth(t, healthv1.HealthCheckResponse_SERVING)
	return s
}

// listening is serveWith for a node that will not be healthy.
func listening(t *testing.T, cmd *exec.Cmd) *served {
	t.Helper()
	cmd.Args = append(cmd.Args, "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--log-format", "json")
	s := &served{program: begin(t, cmd)}
	s.await(t, &s.stderr, "log that it serves", func(text string) bool { return s.readAddresses(text) })
	var err error
	s.conn, err = grpc.NewClient(s.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	s.bus = postbusv1.NewBusServiceClient(s.conn)
	s.http = &http.Client{Transport: new(http.Transport), Timeout: patience}
	t.Cleanup(func() {
		s.conn.Close()
		s.http.CloseIdleConnections()
	})
	return s
}

// readAddresses looks for the log's line that says where the node listens.
func (s *served) readAddresses(text string) bool {
	for line := range strings.Lines(text) {
		var entry struct{ Msg, HTTP, GRPC, Admin string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
			s.httpURL, s.adminURL, s.grpcAddr = "http://"+entry.HTTP, "http://"+entry.Admin, entry.GRPC
			return true
		}
	}
	return false
}

// awaitHealth waits until grpc.health.v1 says want.
func (s *served) awaitHealth(t *testing.T, want healthv1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	ctx := short(t)
	watch, err := healthv1.NewHealthClient(s.conn).Watch(ctx, &healthv1.HealthCheckRequest{Service: postbusv1.BusService_ServiceDesc.ServiceName})
	for err == nil {
		var health *healthv1.HealthCheckResponse
		if health, err = watch.Recv(); err == nil && health.Status == want {
			return
		}
	}
	t.Fatalf("health is not %v: %v", want, err)
}

// get fetches a page of the admin listener.
func (s *served) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := s.http.Get(s.adminURL + path)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

// awaitMetric waits until /metrics says that the metric is want.
func (s *served) awaitMetric(t *testing.T, name string, want int) {
	t.Helper()
	line := fmt.Sprintf("\n%s %d\n", name, want)
	until(t, fmt.Sprintf("%s is %d", name, want), func() bool {
		_, page := s.get(t, "/metrics")
		return strings.Contains(page, line)
	})
}

// stop ends the program as an operator does, and wants exit code 0.
func (p *program) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if code := p.code(t); code != 0 {
		t.Fatalf("exit code %d after SIGTERM, want 0", code)
	}
}
