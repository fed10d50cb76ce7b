//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// An experiment compares variants: in each repetition all of them run once, one after
// the other, in an order that rotates.
type experiment struct {
	title    string
	text     string   // what was done, for the reader
	columns  []string // what a sample's figures are
	variants []variant
	ratios   []ratio
	lost     map[string]string // why a rival could not be measured, by its variant's name
}

// A variant is one of the things that are compared.
type variant struct {
	name string
	goal string // of its figures; "" without one
	run  func(ctx context.Context) (sample, error)
}

// A rivalError is the failure of a program of others. The variant's row says so, and the
// run goes on.
type rivalError struct{ error }

func (e rivalError) Unwrap() error { return e.error }

// A sample is what one run of one variant gave.
type sample struct {
	figures []float64 // in the order of the experiment's columns
	wall    time.Duration
	cpu     usage
}

// A ratio relates the figures of one repetition to each other.
type ratio struct {
	name, goal string
	of         func(figures map[string][]float64) float64
}

// divide returns the ratio of two variants' figures in the given column; NaN when one of
// them could not be measured.
func divide(over, under string, column int) func(map[string][]float64) float64 {
	return func(figures map[string][]float64) float64 {
		return at(figures, over, column) / at(figures, under, column)
	}
}

// at returns a variant's figure; NaN when it could not be measured.
func at(figures map[string][]float64, name string, column int) float64 {
	if figures[name] == nil {
		return math.NaN()
	}
	return figures[name][column]
}

// values returns the ratio of each repetition.
func (r ratio) values(runs map[string][]sample) []float64 {
	var values []float64
	for rep := 0; ; rep++ {
		figures := map[string][]float64{}
		for name, samples := range runs {
			if rep >= len(samples) {
				return values
			}
			figures[name] = samples[rep].figures
		}
		if len(figures) == 0 {
			return values
		}
		values = append(values, r.of(figures))
	}
}

// perform runs e once for warming up and reps times in earnest, and prints the results.
func (e *experiment) perform(ctx context.Context, reps int, out *report) error {
	runs := map[string][]sample{}
	e.lost = map[string]string{}
	for rep := range reps + 1 {
		phase := "warm-up"
		if rep > 0 {
			phase = fmt.Sprintf("%d of %d", rep, reps)
		}
		for i := range e.variants {
			v := e.variants[(i+rep)%len(e.variants)]
			if _, lost := e.lost[v.name]; lost {
				continue
			}
			s, err := v.run(ctx)
			if errors.As(err, new(rivalError)) && ctx.Err() == nil {
				e.lost[v.name] = oneLine(err)
				delete(runs, v.name)
				fmt.Fprintf(os.Stderr, "%s: %s: %s: %v\n", e.title, phase, v.name, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			if rep > 0 {
				runs[v.name] = append(runs[v.name], s)
			}
			fmt.Fprintf(os.Stderr, "%s: %s: %s: %.4g\n", e.title, phase, v.name, s.figures)
		}
	}
	e.results(out, runs)
	return out.judge(e, runs)
}

// oneLine writes an error for a cell of a table.
func oneLine(err error) string {
	const limit = 200
	text := strings.ReplaceAll(strings.Join(strings.Fields(err.Error()), " "), "|", "/")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

// hammer calls work from so many goroutines, again and again until length is over, and
// returns how often in how long. Calls under way at the end count with their time.
func hammer(ctx context.Context, workers int, length time.Duration, work func(ctx context.Context, worker int) error) (calls int64, wall time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, length+time.Minute)
	defer cancel()
	counts := make([]int64, workers)
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for worker := range workers {
		group.Go(func() error {
			n := int64(0)
			for time.Since(began) < length {
				if err := work(ctx, worker); err != nil {
					return err
				}
				n++
			}
			counts[worker] = n
			return nil
		})
	}
	err = group.Wait()
	for _, n := range counts {
		calls += n
	}
	return calls, time.Since(began), err
}
