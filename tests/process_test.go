package tests

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/tests/process"
)

// patience bounds the life of a process, which starts slower than a node.
const patience = 2 * longest

// A program is the built program, or another, as a process.
type program struct{ *process.Process }

// command returns the program with args, not started.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd, err := process.Command(args...)
	must(t, err)
	cmd.WaitDelay = patience
	return cmd
}

// begin starts cmd. It is killed at cleanup if it still runs then.
func begin(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p, err := process.Start(cmd)
	must(t, err)
	t.Cleanup(func() {
		p.Kill()
		said := p.Stderr.String()
		if strings.Contains(said, "DATA RACE") {
			t.Errorf("%q has a data race", cmd.Args)
		}
		if t.Failed() && said != "" {
			t.Logf("%q wrote\n%s", cmd.Args, said)
		}
	})
	return &program{p}
}

// patient is a context that ends after patience.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// signal sends a signal.
func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v: %v", s, err)
	}
}

// code waits for the end and returns the exit code, -1 of a process that was killed.
func (p *program) code(t *testing.T) int {
	t.Helper()
	code, err := p.Code(patient(t))
	must(t, err)
	return code
}

// await waits until the program has written on stderr or stdout what found finds.
func (p *program) await(t *testing.T, out *process.Output, what string, found func(text string) bool) {
	t.Helper()
	must(t, p.Await(patient(t), out, what, found))
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
	return result{p.code(t), p.Stdout.String(), p.Stderr.String()}
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
	cmd.Args = slices.Insert(cmd.Args, 2, process.ServingFlags()...) // behind the command: cmd's own win
	s := &served{program: begin(t, cmd)}
	at, err := s.Serving(patient(t))
	must(t, err)
	s.httpURL, s.adminURL, s.grpcAddr = "http://"+at.HTTP, "http://"+at.Admin, at.GRPC
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
