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
	for _, project := range []string{".", "test/types/node"} {
		if got := tool(t, javaScriptClient, nil, "node", compiler, "-p", project); got.code != 0 {
			t.Errorf("%s: exit code %d\n%s", project, got.code, got.stdout)
		}
	}
}

// TestJavaScriptClientREADMEsFirstMinuteIsAsItSays runs the page's first program, as installed by
// the page's command, in a Node without WebSocket.
func TestJavaScriptClientREADMEsFirstMinuteIsAsItSays(t *testing.T) {
	t.Parallel()
	needs(t, "node", "npm")
	text, err := os.ReadFile(filepath.Join(javaScriptClient, "README.md"))
	must(t, err)
	page, dir := string(text), t.TempDir()
	steps := stepsOf(page)
	if len(steps) != 1 {
		t.Fatalf("the page has %d commands", len(steps))
	}
	client, err := filepath.Abs(javaScriptClient)
	must(t, err)
	install := exec.Command("sh", "-c", strings.Replace(steps[0].command, "PATH/TO/postbus/clients/js", client, 1))
	install.Dir, install.Env = dir, append(os.Environ(), "npm_config_offline=true")
	if said, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", steps[0].command, err, said)
	}
	s := serve(t, pgtest.Database(t))
	_, behind, _ := strings.Cut(page, "\nand in a module:\n")
	program, _, _ := strings.Cut(behind, "\nA page needs") // with its blank lines
	program = strings.Replace(program, "http://127.0.0.1:8072", s.httpURL, 1)
	must(t, os.WriteFile(filepath.Join(dir, "first.mjs"), []byte(program), 0o600))
	cmd := exec.Command("node", "first.mjs")
	cmd.Dir, cmd.Env = dir, process.Environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := begin(t, cmd)
	until(t, "it prints what it sent", func() bool { return p.Stdout.String() == "1 paid { order: 7 }\n" })
}

// TestJavaScriptClient runs the client against the program, which it has killed, stopped and
// cut off from its database: G2, G3, G4, G7, G8, G9.
func TestJavaScriptClient(t *testing.T) {
	server := pgtest.Exclusive(t, nil)
	s := &stage{server: server, url: pgtest.DatabaseOn(t, server)}
	s.play(t, nodeTests(t, "test/program/*.test.js"))
}
