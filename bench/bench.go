//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
)

// A bench is one run of the program: what to measure, how long, and where to print.
type bench struct {
	reps    int           // repetitions, beside the warm-up
	length  time.Duration // of a repetition of send and sql; those with the main goals take twice as long
	quick   bool
	folder  string // for what is built
	program string // cmd/postbus, built
	out     *compare.Report
}

// pick returns the first length, or the second when the run is to be quick.
func (b *bench) pick(usual, quick time.Duration) time.Duration {
	if b.quick {
		return quick
	}
	return usual
}

// fewer returns the repetitions of what is measured for information.
func (b *bench) fewer() int { return (b.reps + 1) / 2 }

// build builds a program of the module that folder is in. An end of ctx lets go clean up.
func build(ctx context.Context, folder, program, path string) error {
	command := exec.CommandContext(ctx, "go", "build", "-o", program, path)
	command.Dir = folder
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = endPatience
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", path, err, text)
	}
	return nil
}
