package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/process"
)

// needs fails the test when a program that it needs is not there: a test that is left
// out reads like one that has passed.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing; tests/install installs it", program)
		}
	}
}

// tool runs a program of somebody else's in folder and returns what it wrote.
func tool(t *testing.T, folder string, variables []string, name string, args ...string) result {
	t.Helper()
	if strings.HasPrefix(name, "examples/") {
		absolute, err := filepath.Abs(filepath.Join("..", name))
		must(t, err)
		name = absolute
	}
	needs(t, name)
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = folder, append(process.Environment(), variables...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return run(t, cmd)
}

// example runs an example and compares what it prints, ids aside, with want lines for
// the numbers 0, 1 and 2.
func example(t *testing.T, want string, got result) {
	t.Helper()
	id := regexp.MustCompile(`(?m)^[0-9]+ |"id":[0-9]+,|,"sent_at":"[^"]+"`)
	if said := id.ReplaceAllString(got.stdout, ""); got.code != 0 || got.stderr != "" || said != fmt.Sprintf(want+want+want, 0, 1, 2) {
		t.Errorf("exit code %d, it prints\n%s\n%s", got.code, got.stdout, got.stderr)
	}
}

const exampleLine = "example example {\"number\": %d}\n"

func TestExampleInGo(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	example(t, exampleLine, tool(t, "..", []string{"POSTBUS_SERVER=" + n.grpcAddr}, "go", "run", "./examples/go"))
}

func TestExampleInPython(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	const python = "/usr/bin/python3" // the one that the distribution's grpc belongs to
	if got := tool(t, "..", nil, python, "-c", "import grpc, google.protobuf"); got.code != 0 {
		t.Fatalf("Python's gRPC is missing; tests/install installs it\n%s", got.stderr)
	}
	if got := tool(t, "..", []string{"PYTHON=" + python}, "examples/python/generate.sh"); got.code != 0 {
		t.Fatalf("generate.sh: %s; tests/install installs what it needs", got.stderr)
	}
	example(t, exampleLine, tool(t, "../examples/python", []string{"POSTBUS_SERVER=" + n.grpcAddr, "PYTHONDONTWRITEBYTECODE=1"}, python, "example.py"))
}

func TestExampleInNode(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	if _, err := os.Stat(filepath.Join("..", "examples", "node", "node_modules", "@grpc", "grpc-js")); err != nil {
		t.Fatal("Node's gRPC is missing; tests/install installs it")
	}
	example(t, `example example {"number":%d}`+"\n", tool(t, "../examples/node", nil, "node", "example.js", "--server", n.grpcAddr))
}

func TestExampleInShell(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	needs(t, "curl", "jq")
	example(t, `{"channel":"example","type":"example","payload":{"number":%d},"headers":{}}`+"\n", tool(t, "..", []string{"POSTBUS_HTTP=" + n.base}, "examples/curl/example.sh"))
}

func TestExamplesListIsComplete(t *testing.T) {
	page, err := os.ReadFile("../examples/README.md")
	must(t, err)
	folders, err := filepath.Glob("../examples/*/")
	must(t, err)
	for _, folder := range folders {
		if name := filepath.Base(folder); !strings.Contains(string(page), "| `"+name+"/` |") {
			t.Errorf("examples/README.md does not tell of %s/", name)
		}
	}
}
