//go:build unix

package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// parentFolder names, in the environment, the data folder for a test binary that plays
// the program: it starts a server, says so, and stops it when its input ends.
const parentFolder = "POSTBUS_TEST_PARENT"

func TestMain(m *testing.M) {
	if folder := os.Getenv(parentFolder); folder != "" {
		if err := playParent(folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// A greeting is what the played program says when its server is ready.
type greeting struct {
	PID int
	URL string
}

func playParent(folder string) error {
	server, err := begin(context.Background(), Options{DataDir: folder, CacheDir: folder})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(greeting{server.PID(), server.URL()}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return server.Stop(context.Background())
}

// startParent runs the test binary as a program with a server in folder, as the user
// given (nil: this one), and returns it with the server's greeting.
func startParent(t *testing.T, folder string, as *syscall.Credential) (*exec.Cmd, io.Closer, greeting) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if as != nil { // go test's folder is closed to others
		contents, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		program = filepath.Join(newFolder(t), "program")
		if err := os.WriteFile(program, contents, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), parentFolder+"="+folder)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal("the program did not start its server:", err)
	}
	var said greeting
	if err := json.Unmarshal(line, &said); err != nil {
		t.Fatal(err)
	}
	return cmd, stdin, said
}

// newFolder is t.TempDir for the server's user, too.
func newFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return folder
}

// begin is Start with the programs that the tests run on: those that POSTBUS_TEST_POSTGRES_BIN names, if it does.
func begin(ctx context.Context, options Options) (*Server, error) {
	options.BinDir = os.Getenv("POSTBUS_TEST_POSTGRES_BIN")
	return Start(ctx, options)
}

// startIn starts a server on folder and stops it at cleanup.
func startIn(t *testing.T, folder string) *Server {
	t.Helper()
	server, err := begin(t.Context(), Options{DataDir: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// ask runs one statement on a connection of its own and returns its one text.
func ask(ctx context.Context, url, statement string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var answer string
	err = conn.QueryRow(ctx, statement).Scan(&answer)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return answer, err
}

func mustAsk(t *testing.T, url, statement string) string {
	t.Helper()
	answer, err := ask(t.Context(), url, statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return answer
}

// family lists the server's processes.
func family(t *testing.T, pid int) []int {
	t.Helper()
	pids, err := children(pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) < 3 {
		t.Fatalf("the server has %d processes besides the postmaster, wanted its writers at least", len(pids))
	}
	return append(pids, pid)
}

// awaitGone waits until none of the processes is left.
func awaitGone(t *testing.T, pids []int) {
	t.Helper()
	left := pids
	err := poll(t.Context(), 10*time.Second, func() (bool, error) {
		left = slices.DeleteFunc(slices.Clone(left), func(pid int) bool {
			return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
		})
		return len(left) == 0, nil
	})
	if err != nil {
		t.Fatalf("%d of %d processes are left: %v", len(left), len(pids), err)
	}
}
