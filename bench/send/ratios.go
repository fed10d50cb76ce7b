//go:build unix

package send

import (
	"context"
	"math"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
)

// rivals adds the rivals to e, each way of each a variant, and returns the variants' names
// by the rival's. One that cannot be started is a variant that says why. All ways of a
// rival are compared with the callers of the main goals, its best elsewhere: many thousand
// async publishes, each synced by itself, would take minutes.
func (c *sending) rivals(ctx context.Context, b *rig.Bench, e *compare.Experiment) map[string][]string {
	nats := func() (*rival, error) {
		program, err := natsServer(ctx, b.Folder)
		if err != nil {
			return nil, err
		}
		return startNATS(ctx, program, c.callers, c.size)
	}
	redis := func() (*rival, error) { return startRedis(ctx, c.callers, c.size) }
	names := map[string][]string{}
	add := func(rival, name string, run func(context.Context) (compare.Sample, error)) {
		names[rival] = append(names[rival], name)
		e.Variants = append(e.Variants, compare.Variant{Name: name, Run: noRows(run)})
	}
	for _, each := range []struct {
		name  string
		start func() (*rival, error)
	}{{viaNATS, nats}, {viaRedis, redis}} {
		r, err := each.start()
		if err != nil {
			add(each.name, each.name, func(context.Context) (compare.Sample, error) { return compare.Sample{}, compare.RivalError{Why: err} })
			continue
		}
		c.Ending.Add(r.end)
		ways := r.ways
		if c.callers != mainCallers {
			ways = ways[len(ways)-1:]
		}
		for _, way := range ways {
			add(each.name, each.name+", "+way.name, func(ctx context.Context) (compare.Sample, error) {
				s, err := c.measureRival(ctx, r, way)
				if err != nil {
					err = compare.RivalError{Why: err}
				}
				return s, err
			})
		}
	}
	return names
}

func (c *sending) measureRival(ctx context.Context, r *rival, w way) (compare.Sample, error) {
	m, err := rig.NewMeter(0, r.process.PID())
	if err != nil {
		return compare.Sample{}, err
	}
	return c.measure(ctx, m, w.call)
}

// noRows adds an empty figure for the rows a statement, of which only Postbus and bare
// INSERTs have any.
func noRows(run func(context.Context) (compare.Sample, error)) func(context.Context) (compare.Sample, error) {
	return func(ctx context.Context) (compare.Sample, error) {
		s, err := run(ctx)
		s.Figures = append(s.Figures, math.NaN())
		return s, err
	}
}

// ratios relates Postbus to the others. rivals has the names of their variants.
func (c *sending) ratios(rivals map[string][]string) []compare.Ratio {
	const rate, cost = 0, 1
	aloneGoal, redisGoal := "", ""
	if c.callers == mainCallers {
		aloneGoal = "≥ 0.75"
	}
	if c.size > 1 {
		redisGoal = "> 1"
	}
	return []compare.Ratio{
		{Name: "Postbus / a, one after the other: 1/(1/gRPC + 1/INSERT)", Goal: aloneGoal, Of: func(f map[string][]float64) float64 {
			return compare.At(f, viaOne, rate) / inSeries(compare.At(f, grpcAlone, rate), compare.At(f, rowsAlone, rate))
		}},
		{Name: "Postbus / INSERT and commit each", Of: compare.Divide(viaOne, eachInsert, rate)},
		{Name: "Postbus / INSERT, NOTIFY and commit each", Of: compare.Divide(viaOne, eachNotify, rate)},
		{Name: "Postbus / NATS JetStream", Goal: "> 1", Of: func(f map[string][]float64) float64 {
			return compare.At(f, viaOne, rate) / compare.At(f, fastest(f, rivals[viaNATS]), rate)
		}},
		{Name: "Postbus / Redis Streams", Goal: redisGoal, Of: func(f map[string][]float64) float64 {
			return compare.At(f, viaOne, rate) / compare.At(f, fastest(f, rivals[viaRedis]), rate)
		}},
		{Name: "CPU a message, Postbus / NATS JetStream", Of: func(f map[string][]float64) float64 {
			return compare.At(f, viaOne, cost) / compare.At(f, fastest(f, rivals[viaNATS]), cost)
		}},
		{Name: "CPU a message, Postbus / Redis Streams", Of: func(f map[string][]float64) float64 {
			return compare.At(f, viaOne, cost) / compare.At(f, fastest(f, rivals[viaRedis]), cost)
		}},
		{Name: "two nodes / one", Of: compare.Divide(viaTwo, viaOne, rate)},
		{Name: "CPU a message, two nodes / one", Goal: "≤ 1.1", Of: compare.Divide(viaTwo, viaOne, cost)},
		{Name: "Postbus against itself", Of: compare.Divide(viaAgain, viaOne, rate)},
		{Name: "CPU a message, Postbus against itself", Of: compare.Divide(viaAgain, viaOne, cost)},
	}
}

// fastest returns which of the named variants had the highest rate; one that could not be
// measured only if none could.
func fastest(figures map[string][]float64, names []string) string {
	best := names[0]
	for _, name := range names[1:] {
		if rate := compare.At(figures, name, 0); math.IsNaN(compare.At(figures, best, 0)) || rate > compare.At(figures, best, 0) {
			best = name
		}
	}
	return best
}

// inSeries returns the rate of two steps that are done one after the other.
func inSeries(a, b float64) float64 { return 1 / (1/a + 1/b) }
