//go:build unix

package main

import (
	"fmt"
	"io"
	"math"
)

// A report is what the program prints: tables as they come, and at the end one that says
// which goals were reached.
type report struct {
	io.Writer
	benchmark string // the name of the one that runs
	verdicts  []verdict
}

// A verdict is one row of the last table.
type verdict struct {
	benchmark string
	what      string
	goal      string
	values    []float64 // of each repetition; none when it could not be measured
	reached   bool      // by their median
}

// judge keeps the verdicts on an experiment's goals.
func (r *report) judge(e *experiment, runs map[string][]sample) error {
	for _, v := range e.variants {
		bounds, err := parseGoal(v.goal)
		if err != nil {
			return err
		}
		for i, each := range bounds {
			column, err := each.columnOf(e.columns, i)
			if err != nil {
				return err
			}
			values := pluck(runs[v.name], func(s sample) float64 { return s.figures[column] })
			r.add(e.title+": "+v.name+", "+e.columns[column], each, values)
		}
	}
	for _, each := range e.ratios {
		bounds, err := parseGoal(each.goal)
		if err != nil {
			return err
		}
		for _, b := range bounds {
			r.add(e.title+": "+each.name, b, each.values(runs))
		}
	}
	return nil
}

func (r *report) add(what string, b bound, values []float64) {
	r.verdicts = append(r.verdicts, verdict{r.benchmark, what, b.text, values, b.holds(median(values))})
}

// summary prints the last table.
func (r *report) summary() {
	if len(r.verdicts) == 0 {
		return
	}
	fmt.Fprint(r, "\n### The goals\n")
	t := table{header: []string{"", "goal", "median", "least–most", "reached", "again with"}}
	for _, v := range r.verdicts {
		t.add(v.what, v.goal, figure(median(v.values)), reach(v.values), v.answer(),
			fmt.Sprintf("`go -C bench run . -run '^%s$'`", v.benchmark))
	}
	t.print(r)
}

func (v verdict) answer() string {
	switch {
	case math.IsNaN(median(v.values)):
		return "not measured"
	case v.reached:
		return "yes"
	}
	return "**no**"
}
