//go:build unix

package compare

import (
	"fmt"
	"strconv"
	"strings"
)

// A bound is one part of a goal: "≤ 12 KB", or the second of "≤ 2/s, ≤ 1 %". One that
// names its column begins with it: "p99 ≤ 15 ms". The others bound the column in their
// own place.
type bound struct {
	text   string
	column string // how the column's name begins; "" for the one in the bound's place
	holds  func(value float64) bool
}

var comparisons = map[string]func(value, limit float64) bool{
	"≥": func(value, limit float64) bool { return value >= limit },
	"≤": func(value, limit float64) bool { return value <= limit },
	">": func(value, limit float64) bool { return value > limit },
	"<": func(value, limit float64) bool { return value < limit },
}

// parseGoal returns the bounds of a goal, none for "".
func parseGoal(goal string) ([]bound, error) {
	if goal == "" {
		return nil, nil
	}
	var bounds []bound
	for text := range strings.SplitSeq(goal, ", ") {
		at := strings.IndexAny(text, "≥≤><")
		if at < 0 {
			return nil, fmt.Errorf("goal %q: nothing is compared in %q", goal, text)
		}
		sign := string([]rune(text[at:])[0])
		limit, err := leadingNumber(strings.TrimSpace(text[at+len(sign):]))
		if err != nil {
			return nil, fmt.Errorf("goal %q: %w", goal, err)
		}
		compare := comparisons[sign]
		bounds = append(bounds, bound{text, strings.TrimSpace(text[:at]), func(value float64) bool { return compare(value, limit) }})
	}
	return bounds, nil
}

// leadingNumber reads "12 KB" and "2/s" as 12 and 2.
func leadingNumber(text string) (float64, error) {
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(text)
	}
	return strconv.ParseFloat(text[:end], 64)
}

// columnOf returns the place among columns of what the i-th bound is for.
func (b bound) columnOf(columns []string, i int) (int, error) {
	if b.column == "" && i < len(columns) {
		return i, nil
	}
	for place, name := range columns {
		if b.column != "" && strings.HasPrefix(name, b.column) {
			return place, nil
		}
	}
	return 0, fmt.Errorf("goal %q: no such column among %q", b.text, columns)
}
