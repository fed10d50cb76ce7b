//go:build unix

package compare

import (
	"slices"
	"testing"
)

func TestGoalsBoundTheirColumns(t *testing.T) {
	columns := []string{"p50 ms", "p99 ms", "lost"}
	for _, c := range []struct {
		goal    string
		figures []float64
		want    []bool // of each bound
	}{
		{"", []float64{1, 2, 3}, nil},
		{"≤ 2 ms", []float64{2, 9, 9}, []bool{true}},
		{"≤ 2 ms", []float64{2.01, 0, 0}, []bool{false}},
		{"p99 ≤ 15 ms", []float64{99, 15, 99}, []bool{true}},
		{"p99 ≤ 15 ms", []float64{0, 15.1, 0}, []bool{false}},
		{"≤ 2/s, ≤ 0.5 %, lost < 1", []float64{2, 0.6, 0}, []bool{true, false, true}},
		{"> 1", []float64{1, 5, 5}, []bool{false}},
		{"≥ 0.75", []float64{0.75, 0, 0}, []bool{true}},
		{"≥ 0.75", []float64{0.74, 9, 9}, []bool{false}},
	} {
		bounds, err := parseGoal(c.goal)
		if err != nil {
			t.Fatal(err)
		}
		var got []bool
		for i, each := range bounds {
			column, err := each.columnOf(columns, i)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, each.holds(c.figures[column]))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q of %v holds: %v, want %v", c.goal, c.figures, got, c.want)
		}
	}
}

func TestGoalsThatSayNothingAreRefused(t *testing.T) {
	for _, goal := range []string{"2 ms", "≤", "≤ much", "≤ 1, 2"} {
		if bounds, err := parseGoal(goal); err == nil {
			t.Errorf("%q is the goal %v", goal, bounds)
		}
	}
	bounds, err := parseGoal("p90 ≤ 1")
	if err != nil {
		t.Fatal(err)
	}
	if column, err := bounds[0].columnOf([]string{"p50", "p99"}, 0); err == nil {
		t.Errorf("p90 is column %d of p50, p99", column)
	}
}
