//go:build unix

// Package compare runs what is compared in turns and prints what came of it: statistics
// of repetitions, ratios within each, tables of Markdown, and goals.
package compare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
)

// An Experiment compares variants: in each repetition all of them run once, one after
// the other, in an order that rotates.
type Experiment struct {
	Title    string
	Text     string   // what was done, for the reader
	Columns  []string // what a sample's figures are
	Variants []Variant
	Ratios   []Ratio
	lost     map[string]string // why a rival could not be measured, by its variant's name
}

// A Variant is one of the things that are compared.
type Variant struct {
	Name string
	Goal string // of its figures; "" without one
	Run  func(ctx context.Context) (Sample, error)
}

// A RivalError is the failure of a program of others. The variant's row says so, and the
// run goes on.
type RivalError struct{ Why error }

func (e RivalError) Error() string { return e.Why.Error() }

func (e RivalError) Unwrap() error { return e.Why }

// A Ratio relates the figures of one repetition to each other.
type Ratio struct {
	Name, Goal string
	Of         func(figures map[string][]float64) float64
}

// Divide returns the ratio of two variants' figures in the given column; NaN when one of
// them could not be measured.
func Divide(over, under string, column int) func(map[string][]float64) float64 {
	return func(figures map[string][]float64) float64 {
		return At(figures, over, column) / At(figures, under, column)
	}
}

// At returns a variant's figure; NaN when it could not be measured.
func At(figures map[string][]float64, name string, column int) float64 {
	if figures[name] == nil {
		return math.NaN()
	}
	return figures[name][column]
}

// values returns the ratio of each repetition.
func (r Ratio) values(all Runs) []float64 {
	return all.Each(func(run func(name string) Sample) float64 {
		figures := map[string][]float64{}
		for name := range all {
			figures[name] = run(name).Figures
		}
		return r.Of(figures)
	})
}

// Perform measures the variants and reports what they gave.
func (e *Experiment) Perform(ctx context.Context, reps int, out *Report) error {
	all, err := e.Measure(ctx, reps)
	if err != nil {
		return err
	}
	return e.Report(out, all)
}

// Measure runs all variants once for warming up and reps times in earnest. A goal that cannot
// be judged is told before (TestAGoalThatSaysNothingIsToldBeforeAnythingRuns).
func (e *Experiment) Measure(ctx context.Context, reps int) (Runs, error) {
	if err := new(Report).judge(e, nil); err != nil {
		return nil, err
	}
	all := Runs{}
	e.lost = map[string]string{}
	for rep := range reps + 1 {
		phase := "warm-up"
		if rep > 0 {
			phase = fmt.Sprintf("%d of %d", rep, reps)
		}
		for i := range e.Variants {
			v := e.Variants[(i+rep)%len(e.Variants)]
			if _, lost := e.lost[v.Name]; lost {
				continue
			}
			s, err := v.Run(ctx)
			if errors.As(err, new(RivalError)) && ctx.Err() == nil {
				e.lost[v.Name] = oneLine(err)
				delete(all, v.Name)
				fmt.Fprintf(os.Stderr, "%s: %s: %s: %v\n", e.Title, phase, v.Name, err)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.Name, err)
			}
			if rep > 0 {
				all[v.Name] = append(all[v.Name], s)
			}
			fmt.Fprintf(os.Stderr, "%s: %s: %s: %.4g in %.2g s, %.2g s of server CPU\n",
				e.Title, phase, v.Name, s.Figures, s.Wall.Seconds(), s.CPU.Server.Seconds())
		}
	}
	return all, nil
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
