//go:build unix

package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// fixed returns a variant that gives these figures, one a run, and notes its runs.
func fixed(name, goal string, order *[]string, figures ...float64) variant {
	run := 0
	return variant{name, goal, func(context.Context) (sample, error) {
		*order = append(*order, name)
		run++
		return sample{figures: []float64{figures[run-1]}}, nil
	}}
}

func TestVariantsRunInTurns(t *testing.T) {
	var order []string
	e := experiment{title: "turns", columns: []string{"x"}, variants: []variant{
		fixed("a", "", &order, 1, 1, 1), fixed("b", "", &order, 1, 1, 1), fixed("c", "", &order, 1, 1, 1),
	}}
	if err := e.perform(t.Context(), 2, &report{Writer: &strings.Builder{}}); err != nil {
		t.Fatal(err)
	}
	if want := strings.Fields("a b c  b c a  c a b"); !slices.Equal(order, want) {
		t.Errorf("ran %q, want %q", order, want)
	}
}

func TestRatiosAreMadeWithinARepetitionWithoutTheWarmUp(t *testing.T) {
	var order []string
	e := experiment{
		title: "ratios", columns: []string{"x"},
		variants: []variant{fixed("a", "≥ 4", &order, 1000, 2, 9, 4), fixed("b", "", &order, 1, 4, 3, 4)},
		ratios:   []ratio{{"a / b", "≥ 1.5", divide("a", "b", 0)}},
	}
	r := &report{Writer: &strings.Builder{}, benchmark: "some/thing"}
	if err := e.perform(t.Context(), 3, r); err != nil {
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
	e := experiment{
		title: "Speed", columns: []string{"x"},
		variants: []variant{fixed("a", "≥ 4", &order, 0, 2, 9, 4), fixed("b", "< 4", &order, 0, 4, 3, 4)},
	}
	var text strings.Builder
	r := &report{Writer: &text, benchmark: "some/thing"}
	if err := e.perform(t.Context(), 3, r); err != nil {
		t.Fatal(err)
	}
	r.summary()
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
	failing := variant{"rival", "", func(context.Context) (sample, error) {
		if runs++; runs == 3 {
			return sample{}, rivalError{errors.New("out\nof | memory")}
		}
		return sample{figures: []float64{1}}, nil
	}}
	e := experiment{
		title: "rivals", columns: []string{"x"},
		variants: []variant{fixed("a", "", &order, 1, 2, 3, 4), failing},
		ratios:   []ratio{{"a / rival", "> 1", divide("a", "rival", 0)}, {"a / a", "", divide("a", "a", 0)}},
	}
	var text strings.Builder
	r := &report{Writer: &text}
	if err := e.perform(t.Context(), 3, r); err != nil {
		t.Fatal(err)
	}
	r.summary()
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
	e := experiment{columns: []string{"x"}, variants: []variant{{"a", "", func(context.Context) (sample, error) { return sample{}, broken }}}}
	if err := e.perform(t.Context(), 1, &report{Writer: &strings.Builder{}}); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}

func TestTheBetterWayOfARivalCounts(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		figures map[string][]float64
		want    string
	}{
		{map[string][]float64{"a": {1}, "b": {2}, "c": {1.5}}, "b"},
		{map[string][]float64{"b": {2}, "c": {3}}, "c"},
		{map[string][]float64{"a": {4}}, "a"},
		{map[string][]float64{"a": {nan}, "c": {1}}, "c"},
	} {
		if got := fastest(c.figures, []string{"a", "b", "c"}); got != c.want {
			t.Errorf("the fastest of %v is %s, want %s", c.figures, got, c.want)
		}
	}
}

func TestLostMessagesAreCountedAndNotTimed(t *testing.T) {
	const ms = 1_000_000
	all := []journey{{10 * ms, 13 * ms, 15 * ms}, {20 * ms, 22 * ms, 0}, {30 * ms, 32 * ms, 31 * ms}}
	figures, lost := timings(all)
	if want := []float64{1, 5, 5, -1, 2}; !slices.EqualFunc(figures, want, near) || lost != 1 {
		t.Errorf("timings = %v, %d lost, want %v, 1", figures, lost, want)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestTheGoalsOfTheBenchmarksCanBeJudged(t *testing.T) {
	latency := (&bench{}).latencies(idlePace, &route{}, &route{}, &route{})
	c := &sending{load: load{mainCallers, 100, 1}}
	send := &experiment{columns: []string{"messages/s", "cost", "cores"}, ratios: c.ratios(map[string][]string{viaNATS: {viaNATS}, viaRedis: {viaRedis}})}
	for want, e := range map[int]*experiment{6: latency, 4: send} {
		r := &report{Writer: &strings.Builder{}}
		if err := r.judge(e, nil); err != nil {
			t.Error(err)
		}
		if len(r.verdicts) != want {
			t.Errorf("%q has %d goals, want %d: %v", e.title, len(r.verdicts), want, r.verdicts)
		}
	}
}
