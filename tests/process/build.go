package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Build builds the program with the race detector, once for the tests of a package, and
// returns its path.
var Build = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	path := filepath.Join(strings.TrimSpace(string(root)), "bin", "postbus-race")
	said, err := exec.Command("go", "build", "-race", "-o", path, "github.com/postbus/postbus/cmd/postbus").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, said)
	}
	return path, nil
})

// Environment returns this process's variables without those of Postbus.
func Environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "POSTBUS_") {
			kept = append(kept, variable)
		}
	}
	return append(kept, "GORACE=atexit_sleep_ms=0")
}

// Command returns the program with args, not started. Of this process's variables those of
// Postbus do not reach it.
func Command(args ...string) (*exec.Cmd, error) {
	path, err := Build()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Env = Environment()
	return cmd, nil
}
