//go:build unix

package main

import (
	"math"
	"slices"
)

// median returns the middle one of values, or the mean of the two in the middle; NaN
// without values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile returns the smallest of values that p percent of them do not exceed
// (nearest rank: always one that was measured), for p above 0 and up to 100; NaN without
// values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// bounds returns the least and the greatest of values; NaN without values.
func bounds(values []float64) (least, most float64) {
	if len(values) == 0 {
		return math.NaN(), math.NaN()
	}
	return slices.Min(values), slices.Max(values)
}

// inSeries returns the rate of two steps that are done one after the other.
func inSeries(a, b float64) float64 { return 1 / (1/a + 1/b) }
