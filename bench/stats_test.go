//go:build unix

package main

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
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", before, got, c.want)
		}
		if !slices.Equal(c.values, before) {
			t.Errorf("median(%v) left %v behind", before, c.values)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

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

func TestBoundsAreLeastAndMost(t *testing.T) {
	if least, most := bounds([]float64{3, -1, 2}); least != -1 || most != 3 {
		t.Errorf("bounds = %v, %v, want -1, 3", least, most)
	}
	if least, most := bounds(nil); !math.IsNaN(least) || !math.IsNaN(most) {
		t.Errorf("bounds of nothing = %v, %v, want NaN", least, most)
	}
}

func TestRatesInSeries(t *testing.T) {
	if got := inSeries(30, 60); math.Abs(got-20) > 1e-9 {
		t.Errorf("inSeries(30, 60) = %v, want 20", got)
	}
}

func TestFiguresAreWrittenForReaders(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0.00", 0.567: "0.57", 9.994: "9.99", 9.996: "10.0", 99.96: "100", 12.34: "12.3", 123.6: "124", 9999.6: "10,000", 1234567: "1,234,567", -0.25: "-0.25",
	} {
		if got := figure(value); got != want {
			t.Errorf("figure(%v) = %q, want %q", value, got, want)
		}
	}
	if got := figure(math.NaN()); got != "–" {
		t.Errorf("figure(NaN) = %q, want –", got)
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
