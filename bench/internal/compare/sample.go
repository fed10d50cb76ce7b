//go:build unix

package compare

import "time"

// A Sample is what one run of one variant gave.
type Sample struct {
	Figures []float64 // in the order of the experiment's columns
	Wall    time.Duration
	CPU     Usage
}

// A Usage is CPU time, user and system, by who spent it.
type Usage struct {
	Client   time.Duration // this process
	Server   time.Duration // the server under test, or the servers
	Database time.Duration // all of PostgreSQL's processes
}

// Total returns what all of them spent together.
func (u Usage) Total() time.Duration { return u.Client + u.Server + u.Database }

// Runs are the samples of each variant, by its name, one a repetition.
type Runs map[string][]Sample

// Pluck returns one number of each sample of a variant.
func (r Runs) Pluck(name string, of func(Sample) float64) []float64 {
	values := make([]float64, len(r[name]))
	for i, s := range r[name] {
		values[i] = of(s)
	}
	return values
}

// Each returns one number of each repetition, made of what all variants gave in it.
func (r Runs) Each(of func(run func(name string) Sample) float64) []float64 {
	if len(r) == 0 {
		return nil
	}
	var values []float64
	for rep := 0; ; rep++ {
		for _, samples := range r {
			if rep >= len(samples) {
				return values
			}
		}
		values = append(values, of(func(name string) Sample { return r[name][rep] }))
	}
}
