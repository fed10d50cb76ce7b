//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// A round is one of the things that are measured in turns.
type round struct {
	name string
	run  func(ctx context.Context) (sample, error)
}

// rounds runs all of them once for warming up and then as often as the bench repeats, in
// an order that rotates, and returns the samples by name.
func (b *bench) rounds(ctx context.Context, title string, all []round) (map[string][]sample, error) {
	samples := map[string][]sample{}
	reps := b.fewer()
	for rep := range reps + 1 {
		for i := range all {
			each := all[(i+rep)%len(all)]
			s, err := each.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", each.name, err)
			}
			if rep > 0 {
				samples[each.name] = append(samples[each.name], s)
			}
			fmt.Fprintf(os.Stderr, "%s: %d of %d: %s: %.4g in %.2g s, %.2g s of server CPU\n",
				title, rep, reps, each.name, s.figures, s.wall.Seconds(), s.cpu.server.Seconds())
		}
	}
	return samples, nil
}

// each returns one number of each repetition.
func each(samples map[string][]sample, of func(run func(name string) sample) float64) []float64 {
	var values []float64
	for rep := 0; ; rep++ {
		for _, s := range samples {
			if rep >= len(s) {
				return values
			}
		}
		values = append(values, of(func(name string) sample { return samples[name][rep] }))
	}
}

// needFiles returns an error unless a process may have so many connections.
func needFiles(conns int) error {
	// Go raises the soft limit to the hard one at the start of every process.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if files.Max < uint64(conns+spareFiles) {
		return fmt.Errorf("%d files may be open at once (ulimit -Hn), at least %d are needed", files.Max, conns+spareFiles)
	}
	return nil
}
