package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/process"
)

const javaScriptClient = "../clients/js"

// nodeTests is a run of Node's test runner over the client's files of this pattern. Node 20
// has a WebSocket only when it is asked for one.
func nodeTests(t *testing.T, pattern string, variables ...string) *exec.Cmd {
	t.Helper()
	needs(t, "node")
	files, err := filepath.Glob(filepath.Join(javaScriptClient, pattern))
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("no tests match %s", pattern)
	}
	// What a failed test leaves open must not keep the run from its end.
	args := []string{"--experimental-websocket", "--no-warnings", "--test-force-exit", "--test"}
	for _, file := range files {
		relative, err := filepath.Rel(javaScriptClient, file)
		must(t, err)
		args = append(args, relative)
	}
	cmd := exec.Command("node", args...)
	cmd.Dir, cmd.Env = javaScriptClient, append(process.Environment(), variables...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// enough bounds a run of many tests of Node's.
const enough = 10 * patience

// passed waits for the end of a run, and fails the test with what it says of those that failed.
func passed(t *testing.T, p *program) {
	t.Helper()
	select {
	case <-p.Exited:
	case <-time.After(enough):
	}
	if code := p.code(t); code != 0 || !strings.Contains(p.Stdout.String(), "\n# fail 0\n") {
		t.Errorf("exit code %d\n%s", code, p.Stdout.String())
	}
}

// TestJavaScriptClientAlone runs the client's tests against a server that misbehaves as they say.
func TestJavaScriptClientAlone(t *testing.T) {
	t.Parallel()
	passed(t, begin(t, nodeTests(t, "test/*.test.js")))
}

// TestJavaScriptClientTypes checks the source, the declarations against it, and their use.
func TestJavaScriptClientTypes(t *testing.T) {
	t.Parallel()
	compiler := filepath.Join("node_modules", "typescript", "bin", "tsc")
	if _, err := os.Stat(filepath.Join(javaScriptClient, compiler)); err != nil {
		t.Fatal("TypeScript is missing; tests/install installs it")
	}
	if got := tool(t, javaScriptClient, nil, "node", compiler); got.code != 0 {
		t.Errorf("exit code %d\n%s", got.code, got.stdout)
	}
}

// TestJavaScriptClient runs the client against the program, which it has killed, stopped and
// cut off from its database: G2, G3, G4, G7, G8, G9.
func TestJavaScriptClient(t *testing.T) {
	server := pgtest.Exclusive(t, nil)
	s := &stage{server: server, url: pgtest.DatabaseOn(t, server)}
	s.play(t, nodeTests(t, "test/program/*.test.js"))
}
