//go:build unix

package send

import (
	"math"
	"strings"
	"testing"

	"github.com/postbus/postbus/bench/internal/compare"
)

func TestTheGoalsOfSendCanBeJudged(t *testing.T) {
	c := &sending{load: load{mainCallers, 100, 1}}
	e := &compare.Experiment{Columns: []string{"messages/s", "cost", "cores"}, Ratios: c.ratios(map[string][]string{viaNATS: {viaNATS}, viaRedis: {viaRedis}})}
	var text strings.Builder
	out := &compare.Report{Writer: &text}
	if err := e.Report(out, nil); err != nil {
		t.Fatal(err)
	}
	out.Summary()
	if got := strings.Count(text.String(), "| not measured |"); got != 4 {
		t.Errorf("%d goals, want 4:\n%s", got, text.String())
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

func TestRatesInSeries(t *testing.T) {
	if got := inSeries(30, 60); math.Abs(got-20) > 1e-9 {
		t.Errorf("inSeries(30, 60) = %v, want 20", got)
	}
}

func TestRowsAStatementMeetTheirMean(t *testing.T) {
	for _, mean := range []float64{0.5, 1, 1.4, 31.7, 1000} {
		const statements = 1000
		sum := 0
		for i := range statements {
			n := rowsOf(int64(i), mean)
			if n < 1 {
				t.Fatalf("statement %d of mean %v has %d rows", i, mean, n)
			}
			sum += n
		}
		if got, want := float64(sum)/statements, max(mean, 1); math.Abs(got-want) > 0.01 {
			t.Errorf("mean %v: %v rows a statement", mean, got)
		}
	}
}
