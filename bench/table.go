//go:build unix

package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// A table is one of Markdown's.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(out io.Writer) {
	fmt.Fprintf(out, "\n| %s |\n|%s\n", strings.Join(t.header, " | "), strings.Repeat("---|", len(t.header)))
	for _, row := range t.rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
}

// figure writes value with three significant digits or all of its whole ones.
func figure(value float64) string {
	size := math.Abs(value)
	switch {
	case math.IsNaN(value):
		return "–"
	case size < 9.995:
		return strconv.FormatFloat(value, 'f', 2, 64)
	case size < 99.95:
		return strconv.FormatFloat(value, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(value, 'f', 0, 64)
	first := 0
	if value < 0 {
		first = 1
	}
	for i := len(digits) - 3; i > first; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// spread writes the median of values and, behind it, their bounds.
func spread(values []float64) string {
	if math.IsNaN(median(values)) {
		return figure(math.NaN())
	}
	return fmt.Sprintf("%s (%s)", figure(median(values)), reach(values))
}

// reach writes the bounds of values.
func reach(values []float64) string {
	least, most := bounds(values)
	if math.IsNaN(least) {
		return figure(least)
	}
	return figure(least) + "–" + figure(most)
}

func seconds(d time.Duration) float64 { return d.Seconds() }

// results writes one row for each variant and one for each ratio.
func (e *experiment) results(out io.Writer, runs map[string][]sample) {
	fmt.Fprintf(out, "\n### %s\n\n%s\n", e.title, e.text)
	t := table{header: append([]string{""}, e.columns...)}
	t.header = append(t.header, "goal", "wall s", "CPU s: client", "server", "database")
	for _, v := range e.variants {
		if why, lost := e.lost[v.name]; lost {
			t.add(append([]string{v.name, "not measured: " + why}, make([]string, len(t.header)-2)...)...)
			continue
		}
		row := []string{v.name}
		for i := range e.columns {
			row = append(row, spread(pluck(runs[v.name], func(s sample) float64 { return s.figures[i] })))
		}
		row = append(row, v.goal)
		for _, of := range []func(sample) float64{
			func(s sample) float64 { return seconds(s.wall) },
			func(s sample) float64 { return seconds(s.cpu.client) },
			func(s sample) float64 { return seconds(s.cpu.server) },
			func(s sample) float64 { return seconds(s.cpu.database) },
		} {
			row = append(row, figure(median(pluck(runs[v.name], of))))
		}
		t.add(row...)
	}
	t.print(out)
	if len(e.ratios) == 0 {
		return
	}
	r := table{header: []string{"ratio, within each repetition", "median (least–most)", "goal"}}
	for _, each := range e.ratios {
		r.add(each.name, spread(each.values(runs)), each.goal)
	}
	r.print(out)
}

func pluck(samples []sample, of func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return values
}
