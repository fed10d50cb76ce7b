//go:build unix

package compare

import (
	"math"
	"slices"
	"testing"
)

func TestMedianIsTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{-1, 100, -2, 50, 0}, 0},
	} {
		before := slices.Clone(c.values)
		if got := Median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", before, got, c.want)
		}
		if !slices.Equal(c.values, before) {
			t.Errorf("median(%v) left %v behind", before, c.values)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

func TestBoundsAreLeastAndMost(t *testing.T) {
	if least, most := bounds([]float64{3, -1, 2}); least != -1 || most != 3 {
		t.Errorf("bounds = %v, %v, want -1, 3", least, most)
	}
	if least, most := bounds(nil); !math.IsNaN(least) || !math.IsNaN(most) {
		t.Errorf("bounds of nothing = %v, %v, want NaN", least, most)
	}
}

func TestFiguresAreWrittenForReaders(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0.00", 0.567: "0.57", 9.994: "9.99", 9.996: "10.0", 99.96: "100", 12.34: "12.3", 123.6: "124", 9999.6: "10,000", 1234567: "1,234,567", -0.25: "-0.25",
	} {
		if got := Figure(value); got != want {
			t.Errorf("figure(%v) = %q, want %q", value, got, want)
		}
	}
	if got := Figure(math.NaN()); got != "–" {
		t.Errorf("figure(NaN) = %q, want –", got)
	}
}
