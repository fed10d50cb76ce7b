//go:build unix

package compare

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// A Table is one of Markdown's.
type Table struct {
	Header []string
	rows   [][]string
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Print writes the table, behind an empty line.
func (t *Table) Print(out io.Writer) {
	fmt.Fprintf(out, "\n| %s |\n|%s\n", strings.Join(t.Header, " | "), strings.Repeat("---|", len(t.Header)))
	for _, row := range t.rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
}

// Figure writes value with three significant digits or all of its whole ones.
func Figure(value float64) string {
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

// Number writes a whole number.
func Number(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return Figure(float64(n))
}

// Spread writes the median of values and, behind it, their bounds.
func Spread(values []float64) string {
	if math.IsNaN(Median(values)) {
		return Figure(math.NaN())
	}
	return fmt.Sprintf("%s (%s)", Figure(Median(values)), reach(values))
}

// reach writes the bounds of values.
func reach(values []float64) string {
	least, most := bounds(values)
	if math.IsNaN(least) {
		return Figure(least)
	}
	return Figure(least) + "–" + Figure(most)
}
