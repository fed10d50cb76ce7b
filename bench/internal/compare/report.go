//go:build unix

package compare

import (
	"fmt"
	"io"
	"math"
)

// A Report is what the program prints: tables as they come, and at the end one that says
// which goals were reached.
type Report struct {
	io.Writer
	Benchmark string // the name of the one that runs
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

// Section writes what heads each section of the report.
func (r *Report) Section(title, text string) {
	fmt.Fprintf(r, "\n### %s\n\n%s\n", title, text)
}

// Report prints one row for each variant and one for each ratio, and judges the goals.
func (e *Experiment) Report(out *Report, all Runs) error {
	out.Section(e.Title, e.Text)
	t := Table{Header: append([]string{""}, e.Columns...)}
	t.Header = append(t.Header, "goal", "wall s", "CPU s: client", "server", "database")
	for _, v := range e.Variants {
		if why, lost := e.lost[v.Name]; lost {
			t.Add(append([]string{v.Name, "not measured: " + why}, make([]string, len(t.Header)-2)...)...)
			continue
		}
		row := []string{v.Name}
		for i := range e.Columns {
			row = append(row, Spread(all.Pluck(v.Name, func(s Sample) float64 { return s.Figures[i] })))
		}
		row = append(row, v.Goal)
		for _, of := range []func(Sample) float64{
			func(s Sample) float64 { return s.Wall.Seconds() },
			func(s Sample) float64 { return s.CPU.Client.Seconds() },
			func(s Sample) float64 { return s.CPU.Server.Seconds() },
			func(s Sample) float64 { return s.CPU.Database.Seconds() },
		} {
			row = append(row, Figure(Median(all.Pluck(v.Name, of))))
		}
		t.Add(row...)
	}
	t.Print(out)
	if len(e.Ratios) > 0 {
		e.printRatios(out, all)
	}
	return out.judge(e, all)
}

func (e *Experiment) printRatios(out io.Writer, all Runs) {
	t := Table{Header: []string{"ratio, within each repetition", "median (least–most)", "goal"}}
	for _, each := range e.Ratios {
		t.Add(each.Name, Spread(each.values(all)), each.Goal)
	}
	t.Print(out)
}

// Failed says that the benchmark that runs has failed.
func (r *Report) Failed(err error) {
	fmt.Fprintf(r, "\n**%s failed:** %s\n", r.Benchmark, oneLine(err))
}

// judge keeps the verdicts on an experiment's goals.
func (r *Report) judge(e *Experiment, all Runs) error {
	for _, v := range e.Variants {
		bounds, err := parseGoal(v.Goal)
		if err != nil {
			return err
		}
		for i, each := range bounds {
			column, err := each.columnOf(e.Columns, i)
			if err != nil {
				return err
			}
			values := all.Pluck(v.Name, func(s Sample) float64 { return s.Figures[column] })
			r.keep(e.Title+": "+v.Name+", "+e.Columns[column], each, values)
		}
	}
	for _, each := range e.Ratios {
		if err := r.Add(e.Title+": "+each.Name, each.Goal, each.values(all)); err != nil {
			return err
		}
	}
	return nil
}

// Add keeps the verdict on a goal for values that stand in no experiment's table.
func (r *Report) Add(what, goal string, values []float64) error {
	bounds, err := parseGoal(goal)
	for _, each := range bounds {
		r.keep(what, each, values)
	}
	return err
}

func (r *Report) keep(what string, b bound, values []float64) {
	r.verdicts = append(r.verdicts, verdict{r.Benchmark, what, b.text, values, b.holds(Median(values))})
}

// Summary prints the last table.
func (r *Report) Summary() {
	if len(r.verdicts) == 0 {
		return
	}
	fmt.Fprint(r, "\n### The goals\n")
	t := Table{Header: []string{"", "goal", "median", "least–most", "reached", "again with"}}
	for _, v := range r.verdicts {
		t.Add(v.what, v.goal, Figure(Median(v.values)), reach(v.values), v.answer(),
			fmt.Sprintf("`go -C bench run . -run '^%s$'`", v.benchmark))
	}
	t.Print(r)
}

func (v verdict) answer() string {
	switch {
	case math.IsNaN(Median(v.values)):
		return "not measured"
	case v.reached:
		return "yes"
	}
	return "**no**"
}
