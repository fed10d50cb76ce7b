//go:build unix

package main

import (
	"context"
	"math"
)

// rivals adds the rivals to e, each way of each a variant, and returns the variants' names
// by the rival's. One that cannot be started is a variant that says why. All ways of a
// rival are compared with the callers of the main goals, its best elsewhere: many thousand
// async publishes, each synced by itself, would take minutes.
func (c *sending) rivals(ctx context.Context, b *bench, e *experiment) map[string][]string {
	nats := func() (*rival, error) {
		program, err := b.natsServer(ctx)
		if err != nil {
			return nil, err
		}
		return startNATS(ctx, program, c.callers, c.size)
	}
	redis := func() (*rival, error) { return startRedis(ctx, c.callers, c.size) }
	names := map[string][]string{}
	add := func(rival, name string, run func(context.Context) (sample, error)) {
		names[rival] = append(names[rival], name)
		e.variants = append(e.variants, variant{name: name, run: noRows(run)})
	}
	for _, each := range []struct {
		name  string
		start func() (*rival, error)
	}{{viaNATS, nats}, {viaRedis, redis}} {
		r, err := each.start()
		if err != nil {
			add(each.name, each.name, func(context.Context) (sample, error) { return sample{}, rivalError{err} })
			continue
		}
		c.atEnd(r.end)
		ways := r.ways
		if c.callers != mainCallers {
			ways = ways[len(ways)-1:]
		}
		for _, way := range ways {
			add(each.name, each.name+", "+way.name, func(ctx context.Context) (sample, error) {
				s, err := c.measureRival(ctx, r, way)
				if err != nil {
					err = rivalError{err}
				}
				return s, err
			})
		}
	}
	return names
}

func (c *sending) measureRival(ctx context.Context, r *rival, w way) (sample, error) {
	m, err := newMeter(r.process.pid(), 0)
	if err != nil {
		return sample{}, err
	}
	return c.measure(ctx, m, w.call)
}

// noRows adds an empty figure for the rows a statement, of which only Postbus and bare
// INSERTs have any.
func noRows(run func(context.Context) (sample, error)) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		s, err := run(ctx)
		s.figures = append(s.figures, math.NaN())
		return s, err
	}
}

// ratios relates Postbus to the others. rivals has the names of their variants.
func (c *sending) ratios(rivals map[string][]string) []ratio {
	const rate, cost = 0, 1
	aloneGoal, redisGoal := "", ""
	if c.callers == mainCallers {
		aloneGoal = "≥ 0.75"
	}
	if c.size > 1 {
		redisGoal = "> 1"
	}
	return []ratio{
		{"Postbus / a, one after the other: 1/(1/gRPC + 1/INSERT)", aloneGoal, func(f map[string][]float64) float64 {
			return at(f, viaOne, rate) / inSeries(at(f, grpcAlone, rate), at(f, rowsAlone, rate))
		}},
		{"Postbus / INSERT and commit each", "", divide(viaOne, eachInsert, rate)},
		{"Postbus / INSERT, NOTIFY and commit each", "", divide(viaOne, eachNotify, rate)},
		{"Postbus / NATS JetStream", "> 1", func(f map[string][]float64) float64 {
			return at(f, viaOne, rate) / at(f, fastest(f, rivals[viaNATS]), rate)
		}},
		{"Postbus / Redis Streams", redisGoal, func(f map[string][]float64) float64 {
			return at(f, viaOne, rate) / at(f, fastest(f, rivals[viaRedis]), rate)
		}},
		{"CPU a message, Postbus / NATS JetStream", "", func(f map[string][]float64) float64 {
			return at(f, viaOne, cost) / at(f, fastest(f, rivals[viaNATS]), cost)
		}},
		{"CPU a message, Postbus / Redis Streams", "", func(f map[string][]float64) float64 {
			return at(f, viaOne, cost) / at(f, fastest(f, rivals[viaRedis]), cost)
		}},
		{"two nodes / one", "", divide(viaTwo, viaOne, rate)},
		{"CPU a message, two nodes / one", "≤ 1.1", divide(viaTwo, viaOne, cost)},
		{"Postbus against itself", "", divide(viaAgain, viaOne, rate)},
		{"CPU a message, Postbus against itself", "", divide(viaAgain, viaOne, cost)},
	}
}

// fastest returns which of the named variants had the highest rate; one that could not be
// measured only if none could.
func fastest(figures map[string][]float64, names []string) string {
	best := names[0]
	for _, name := range names[1:] {
		if rate := at(figures, name, 0); math.IsNaN(at(figures, best, 0)) || rate > at(figures, best, 0) {
			best = name
		}
	}
	return best
}
