//go:build unix

package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
)

// A Bench is one run of the program: what to measure, how long, and where to print.
type Bench struct {
	Reps    int           // repetitions, beside the warm-up
	Length  time.Duration // of a repetition of send and sql; those with the main goals take twice as long
	Quick   bool
	Folder  string // for what is built
	Program string // cmd/postbus, built
	Out     *compare.Report
}

// Pick returns the first length, or the second when the run is to be quick.
func (b *Bench) Pick(usual, quick time.Duration) time.Duration {
	if b.Quick {
		return quick
	}
	return usual
}

// Fewer returns the repetitions of what is measured for information.
func (b *Bench) Fewer() int { return (b.Reps + 1) / 2 }

// Build builds a program of the module that folder is in. An end of ctx lets go clean up.
func Build(ctx context.Context, folder, program, path string) error {
	command := exec.CommandContext(ctx, "go", "build", "-o", program, path)
	command.Dir = folder
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = endPatience
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", path, err, text)
	}
	return nil
}
