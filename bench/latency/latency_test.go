//go:build unix

package latency

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
)

func TestTheGoalsOfLatencyCanBeJudged(t *testing.T) {
	var text strings.Builder
	out := &compare.Report{Writer: &text}
	if err := latencies(&rig.Bench{}, idlePace, &route{}, &route{}, &route{}).Report(out, nil); err != nil {
		t.Fatal(err)
	}
	out.Summary()
	if got := strings.Count(text.String(), "| not measured |"); got != 6 {
		t.Errorf("%d goals, want 6:\n%s", got, text.String())
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

func TestPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100) // 100, 99, … 1
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		values  []float64
		p, want float64
	}{
		{hundred, 50, 50},
		{hundred, 90, 90},
		{hundred, 99, 99},
		{hundred, 99.5, 100},
		{hundred, 100, 100},
		{hundred, 0.1, 1},
		{[]float64{15, 20, 35, 40, 50}, 30, 20},
		{[]float64{15, 20, 35, 40, 50}, 40, 20},
		{[]float64{15, 20, 35, 40, 50}, 50, 35},
		{[]float64{3}, 99, 3},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %v of %d values = %v, want %v", c.p, len(c.values), got, c.want)
		}
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("percentile of nothing = %v, want NaN", got)
	}
}
