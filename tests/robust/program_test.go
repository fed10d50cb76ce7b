package robust

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// programPath is the program under test: POSTBUS_ROBUST_PROGRAM, or else it is built,
// with the race detector, once for all scenarios.
var programPath = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("POSTBUS_ROBUST_PROGRAM"); path != "" {
		return path, nil
	}
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "postbus-race"))
	if err != nil {
		return "", err
	}
	said, err := exec.Command("go", "build", "-race", "-o", path, "../../cmd/postbus").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, said)
	}
	return path, nil
})

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

// next returns what there is, and a channel that is closed when there is more.
func (o *output) next() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grown == nil {
		o.grown = make(chan struct{})
	}
	return o.text.String(), o.grown
}
