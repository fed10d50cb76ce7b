package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/postbus/postbus/tests/process"
)

// A step is a command of the README and what it says that it prints.
type step struct{ command, prints string }

// stepsOf returns the commands of a page, in their order: indented, behind a "$".
func stepsOf(page string) (steps []step) {
	inStep, continued, blank := false, false, false
	for line := range strings.Lines(page) {
		code, indented := strings.CutPrefix(line, "    ")
		if !indented {
			blank = inStep && line == "\n"
			inStep = blank
			continue
		}
		if command, ok := strings.CutPrefix(code, "$ "); ok {
			steps = append(steps, step{})
			inStep, continued, code = true, true, command
		}
		if !inStep {
			continue
		}
		last := &steps[len(steps)-1]
		if blank && !continued {
			last.prints += "\n" // it is one of what is printed
		}
		blank = false
		if continued {
			last.command += code
			continued = strings.HasSuffix(code, "\\\n")
		} else {
			last.prints += code
		}
	}
	return steps
}

// blockBehind returns the indented lines that follow a sentence.
func blockBehind(t *testing.T, page, sentence string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "\n"+sentence+"\n\n")
	if !found {
		t.Fatalf("README.md does not say %q", sentence)
	}
	var block strings.Builder
	for line := range strings.Lines(rest) {
		code, indented := strings.CutPrefix(line, "    ")
		if !indented {
			break
		}
		block.WriteString(code)
	}
	return block.String()
}

// printed returns what matches an output that is described as prints: times differ, and
// … stands for anything.
func printed(prints string) *regexp.Regexp {
	pattern := regexp.QuoteMeta(prints)
	pattern = regexp.MustCompile(`"sent_at":"[^"]*"`).ReplaceAllLiteralString(pattern, `"sent_at":"20[^"]+Z"`)
	return regexp.MustCompile("^" + strings.ReplaceAll(pattern, "…", `[^\n]*`) + "\n*$")
}

// grpcurlPath builds grpcurl once.
var grpcurlPath = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs("../bin/grpcurl")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-modfile=tools/grpcurl.mod", "-o", path, "github.com/fullstorydev/grpcurl/cmd/grpcurl")
	build.Dir = ".."
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build grpcurl: %w\n%s", err, said)
	}
	return path, nil
})

func TestREADMEsFirstMinuteIsAsItSays(t *testing.T) {
	needs(t, "curl", "make")
	text, err := os.ReadFile("../README.md")
	must(t, err)
	page := string(text)
	if !strings.Contains(page, "\n    make run\n") {
		t.Error("README.md does not begin with make run")
	}
	if got := tool(t, "..", nil, "make", "--no-print-directory", "-n", "run"); !strings.HasSuffix(got.stdout, "exec bin/postbus dev\n") {
		t.Errorf("make run is %s", got.stdout)
	}
	grpcurl, err := grpcurlPath()
	must(t, err)
	program, err := process.Build()
	must(t, err)

	s := serveWith(t, dev(t, dataDir(t)))
	onThisMachine := strings.NewReplacer("bin/postbus ", program+" ", "localhost:8072", strings.TrimPrefix(s.httpURL, "http://"),
		"localhost:8073", s.grpcAddr, "grpcurl ", grpcurl+" ")
	var tail *exec.Cmd
	var tailing *runningStep
	steps := stepsOf(page)
	if len(steps) < 6 {
		t.Fatalf("README.md has %d commands", len(steps))
	}
	for _, step := range steps {
		// Without a shell in between, so that what is killed is the command itself.
		cmd := exec.Command("sh", "-c", "exec "+onThisMachine.Replace(step.command))
		cmd.Env = append(process.Environment(), "POSTBUS_SERVER="+s.grpcAddr)
		running := &runningStep{step, begin(t, cmd)}
		switch {
		case strings.Contains(step.command, "postbus tail"):
			tail, tailing = cmd, running
			s.awaitMetric(t, "postbus_streams", 1)
		case strings.Contains(step.command, "/v1/subscribe"):
			running.expect(t, step.prints)
			must(t, cmd.Process.Kill())
		default:
			running.expect(t, step.prints)
			if code := running.code(t); code != 0 {
				t.Errorf("%s: exit code %d", step.command, code)
			}
		}
	}
	if tail == nil {
		t.Fatal("README.md has no tail")
	}
	tailing.expect(t, blockBehind(t, page, "The tail prints"))

	// The first thing that the page shows.
	_, url, found := strings.Cut(s.Stderr.String(), ", at postgres://")
	if !found {
		t.Fatal("dev does not say where its database is")
	}
	url, _, _ = strings.Cut("postgres://"+url, "\n")
	conn := sql(t, url)
	do(t, conn, "CREATE TABLE orders (id integer, paid boolean)", "INSERT INTO orders VALUES (7, false)")
	_, block, _ := strings.Cut(page, "\n    BEGIN;\n")
	block, _, _ = strings.Cut(block, "\n\n")
	do(t, conn, "BEGIN;\n"+block)
	if !ask[bool](t, conn, "SELECT paid FROM orders") {
		t.Error("the transaction of README.md did nothing")
	}
	tailing.await(t, &tailing.Stdout, "the notification of the transaction", func(text string) bool {
		return strings.HasPrefix(text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:], `{"id":4,"channel":"orders","type":"paid","payload":{"order":7},`)
	})
}

// A runningStep is a step under way.
type runningStep struct {
	step
	*program
}

// expect waits until the command has printed all that it should, and nothing else.
func (r *runningStep) expect(t *testing.T, prints string) {
	t.Helper()
	want := printed(prints)
	r.await(t, &r.Stdout, "all its lines", func(text string) bool { return strings.Count(text, "\n") >= strings.Count(prints, "\n") })
	if got := r.Stdout.String(); !want.MatchString(got) {
		t.Errorf("$ %s\nprints\n%s\nand the page says\n%s", r.command, got, prints)
	}
}
