//go:build unix

package compare

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// fixed returns a variant that gives these figures, one a run, and notes its runs.
func fixed(name, goal string, order *[]string, figures ...float64) Variant {
	run := 0
	return Variant{name, goal, func(context.Context) (Sample, error) {
		*order = append(*order, name)
		run++
		return Sample{Figures: []float64{figures[run-1]}}, nil
	}}
}

func TestVariantsRunInTurns(t *testing.T) {
	var order []string
	e := Experiment{Title: "turns", Columns: []string{"x"}, Variants: []Variant{
		fixed("a", "", &order, 1, 1, 1), fixed("b", "", &order, 1, 1, 1), fixed("c", "", &order, 1, 1, 1),
	}}
	if err := e.Perform(t.Context(), 2, &Report{Writer: &strings.Builder{}}); err != nil {
		t.Fatal(err)
	}
	if want := strings.Fields("a b c  b c a  c a b"); !slices.Equal(order, want) {
		t.Errorf("ran %q, want %q", order, want)
	}
}

func TestRatiosAreMadeWithinARepetitionWithoutTheWarmUp(t *testing.T) {
	var order []string
	e := Experiment{
		Title: "ratios", Columns: []string{"x"},
		Variants: []Variant{fixed("a", "≥ 4", &order, 1000, 2, 9, 4), fixed("b", "", &order, 1, 4, 3, 4)},
		Ratios:   []Ratio{{"a / b", "≥ 1.5", Divide("a", "b", 0)}},
	}
	r := &Report{Writer: &strings.Builder{}, Benchmark: "some/thing"}
	if err := e.Perform(t.Context(), 3, r); err != nil {
		t.Fatal(err)
	}
	if len(r.verdicts) != 2 {
		t.Fatalf("verdicts: %v", r.verdicts)
	}
	if v := r.verdicts[0]; !slices.Equal(v.values, []float64{2, 9, 4}) || !v.reached {
		t.Errorf("a: %v", v)
	}
	if v := r.verdicts[1]; !slices.Equal(v.values, []float64{0.5, 3, 1}) || v.reached {
		t.Errorf("a / b: %v", v)
	}
}

func TestTheSummaryNamesFigureSpreadAnswerAndCommand(t *testing.T) {
	var order []string
	e := Experiment{
		Title: "Speed", Columns: []string{"x"},
		Variants: []Variant{fixed("a", "≥ 4", &order, 0, 2, 9, 4), fixed("b", "< 4", &order, 0, 4, 3, 4)},
	}
	var text strings.Builder
	r := &Report{Writer: &text, Benchmark: "some/thing"}
	if err := e.Perform(t.Context(), 3, r); err != nil {
		t.Fatal(err)
	}
	r.Summary()
	for _, want := range []string{
		"| Speed: a, x | ≥ 4 | 4.00 | 2.00–9.00 | yes | `go -C bench run . -run '^some/thing$'` |\n",
		"| Speed: b, x | < 4 | 4.00 | 3.00–4.00 | **no** | `go -C bench run . -run '^some/thing$'` |\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestARivalThatFailsSaysSoAndTheRunGoesOn(t *testing.T) {
	var order []string
	runs := 0
	failing := Variant{"rival", "", func(context.Context) (Sample, error) {
		if runs++; runs == 3 {
			return Sample{}, RivalError{errors.New("out\nof | memory")}
		}
		return Sample{Figures: []float64{1}}, nil
	}}
	e := Experiment{
		Title: "rivals", Columns: []string{"x"},
		Variants: []Variant{fixed("a", "", &order, 1, 2, 3, 4), failing},
		Ratios:   []Ratio{{"a / rival", "> 1", Divide("a", "rival", 0)}, {"a / a", "", Divide("a", "a", 0)}},
	}
	var text strings.Builder
	r := &Report{Writer: &text}
	if err := e.Perform(t.Context(), 3, r); err != nil {
		t.Fatal(err)
	}
	r.Summary()
	if runs != 3 || len(order) != 4 {
		t.Errorf("the rival ran %d times, a %d", runs, len(order))
	}
	for _, want := range []string{
		"| rival | not measured: out of / memory |",
		"| a | 3.00 (2.00–4.00) |",
		"| a / rival | – | > 1 |",
		"| a / a | 1.00 (1.00–1.00) |",
		"| rivals: a / rival | > 1 | – | – | not measured |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestAnyOtherFailureEndsTheExperiment(t *testing.T) {
	broken := errors.New("broken")
	e := Experiment{Columns: []string{"x"}, Variants: []Variant{{"a", "", func(context.Context) (Sample, error) { return Sample{}, broken }}}}
	if err := e.Perform(t.Context(), 1, &Report{Writer: &strings.Builder{}}); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}

func TestAGoalThatSaysNothingIsToldBeforeAnythingRuns(t *testing.T) {
	var order []string
	for _, e := range []Experiment{
		{Columns: []string{"x"}, Variants: []Variant{fixed("a", "as small as can be", &order, 1, 1)}},
		{Columns: []string{"x"}, Variants: []Variant{fixed("a", "y ≤ 1", &order, 1, 1)}},
		{Variants: []Variant{fixed("a", "", &order, 1, 1)}, Ratios: []Ratio{{Goal: "small", Of: Divide("a", "a", 0)}}},
	} {
		err := e.Perform(t.Context(), 1, &Report{Writer: &strings.Builder{}})
		if err == nil || !strings.Contains(err.Error(), "goal") || len(order) > 0 {
			t.Errorf("%v, after %q", err, order)
		}
	}
}
