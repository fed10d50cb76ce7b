package tests

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// dev returns the command of a dev on dataDir.
func dev(t *testing.T, dataDir string) *exec.Cmd {
	t.Helper()
	cmd := command(t, "dev", "--data-dir", dataDir)
	if bin := os.Getenv("POSTBUS_TEST_POSTGRES_BIN"); bin != "" {
		cmd.Args = append(cmd.Args, "--postgres-bin", bin)
	}
	return cmd
}

// dataDir makes a folder that another user can be given; t.TempDir's parents are this
// user's alone.
func dataDir(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "postbus-test-")
	must(t, err)
	t.Cleanup(func() {
		awaitNobody(t, folder) // a killed program's server is still ending
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	must(t, os.Chmod(folder, 0o755))
	return folder
}

// postmaster returns the process id of the PostgreSQL of a data folder.
func postmaster(t *testing.T, dataDir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dataDir, "*", "postmaster.pid"))
	if err != nil || len(files) != 1 {
		t.Fatalf("postmaster.pid in %s: %v, %v", dataDir, files, err)
	}
	text, err := os.ReadFile(files[0])
	must(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	must(t, err)
	return pid
}

// awaitNobody waits until no process is left that works in a data folder.
func awaitNobody(t *testing.T, dataDir string) {
	t.Helper()
	until(t, "PostgreSQL has ended", func() bool { return len(processesIn(t, dataDir)) == 0 })
}

func processesIn(t *testing.T, folder string) (found []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cwd")
	must(t, err)
	for _, process := range processes {
		// Without one it has ended.
		if at, err := os.Readlink(process); err == nil && strings.HasPrefix(at, folder+"/") {
			found = append(found, process)
		}
	}
	return found
}

func TestDevKeepsItsDataAndLeavesNothingRunning(t *testing.T) {
	folder := dataDir(t)
	s := serveWith(t, dev(t, folder))
	var said []string
	for line := range strings.Lines(s.Stderr.String()) {
		if strings.HasPrefix(line, "postbus dev: ") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "PRIVATE PostgreSQL") || !strings.Contains(said[0], folder) {
		t.Errorf("it says %q, want one line that says what it runs and where the data are", said)
	}
	send(t, s.bus, message("orders", "first"))
	if running := processesIn(t, folder); len(running) < 2 {
		t.Fatalf("PostgreSQL runs as %v", running)
	}
	s.stop(t)
	if left := processesIn(t, folder); len(left) > 0 {
		t.Errorf("still running after the stop: %v", left)
	}

	s = serveWith(t, dev(t, folder))
	send(t, s.bus, message("orders", "second"))
	equal(t, "after a stop", textsOf(read(t, s.bus, 2, "orders")), []string{"first", "second"})

	s.signal(t, syscall.SIGKILL)
	s.code(t)
	awaitNobody(t, folder)

	s = serveWith(t, dev(t, folder))
	send(t, s.bus, message("orders", "third"))
	equal(t, "after a kill", textsOf(read(t, s.bus, 3, "orders")), []string{"first", "second", "third"})

	second := run(t, dev(t, folder))
	if second.code != 1 || !oneLine(second.stderr) || !strings.Contains(second.stderr, "in use") {
		t.Errorf("a second dev on the same folder: %+v", second)
	}
	s.stop(t)
}

func TestDevEndsWhenItsPostgreSQLEnds(t *testing.T) {
	folder := dataDir(t)
	s := serveWith(t, dev(t, folder))
	must(t, syscall.Kill(postmaster(t, folder), syscall.SIGINT))
	if code := s.code(t); code != 1 || !strings.Contains(s.Stderr.String(), "the private PostgreSQL ended by itself") {
		t.Errorf("exit code %d", code)
	}
}

func TestDevRunsAsAnUnprivilegedUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // then every other test of dev is this one
	}
	nobody, err := user.Lookup("nobody")
	must(t, err)
	uid, err := strconv.Atoi(nobody.Uid)
	must(t, err)
	gid, err := strconv.Atoi(nobody.Gid)
	must(t, err)
	folder := dataDir(t)
	must(t, os.Chown(folder, uid, gid))
	cmd := dev(t, filepath.Join(folder, "data"))
	// The program is where that user may not go.
	program, err := os.ReadFile(cmd.Path)
	must(t, err)
	cmd.Path = filepath.Join(folder, "postbus")
	must(t, os.WriteFile(cmd.Path, program, 0o755))
	cmd.Dir = folder
	cmd.Env = append(cmd.Env, "HOME="+folder)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	s := serveWith(t, cmd)
	send(t, s.bus, message("orders", "first"))
	s.stop(t)
	awaitNobody(t, folder)
}
