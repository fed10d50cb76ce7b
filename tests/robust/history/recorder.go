package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A Recorder writes a history while it happens. Its methods may be called from any
// goroutine.
type Recorder struct {
	start time.Time

	mu sync.Mutex // guards h
	h  History
}

// NewRecorder returns a Recorder whose time begins now.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Now returns the time of the run.
func (r *Recorder) Now() time.Duration { return time.Since(r.start) }

// At returns a wall clock's time as the run's. The database runs on this machine: its
// clock is ours.
func (r *Recorder) At(wall time.Time) time.Duration { return wall.Sub(r.start.Round(0)) }

// Chain writes down a reader before it begins.
func (r *Recorder) Chain(c Chain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Chains = append(r.h.Chains, c)
}

// Send writes down a send that has returned.
func (r *Recorder) Send(s Send) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Sends = append(r.h.Sends, s)
}

// Response writes down a response that has been received.
func (r *Recorder) Response(response Response) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Responses = append(r.h.Responses, response)
}

// Fault writes down what is done to the bus now.
func (r *Recorder) Fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Faults = append(r.h.Faults, Fault{r.Now(), fmt.Sprintf(format, args...)})
}

// Finish adds the truth and returns the whole. Nothing may be recorded afterwards.
func (r *Recorder) Finish(truth Truth) *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Truth = truth
	return &r.h
}

// Write writes the history into folder, one JSON object a line, a file for each kind.
func (h *History) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return firstOf(
		writeLines(folder, "chains", h.Chains),
		writeLines(folder, "sends", h.Sends),
		writeLines(folder, "responses", h.Responses),
		writeLines(folder, "faults", h.Faults),
		writeLines(folder, "rows", h.Truth.Rows),
	)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func writeLines[T any](folder, name string, values []T) (err error) {
	file, err := os.Create(filepath.Join(folder, name+".jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, file.Close()) }()
	out := bufio.NewWriter(file)
	lines := json.NewEncoder(out)
	for _, value := range values {
		if err := lines.Encode(value); err != nil {
			return err
		}
	}
	return out.Flush()
}
