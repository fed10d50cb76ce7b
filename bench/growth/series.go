//go:build unix

package growth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
)

// A growing is one thing that grows while the rest stays.
type growing struct {
	name  string // what grows
	unit  string // what the costs are of
	sizes []int
	open  func(ctx context.Context, size int, p *point) error
}

// A point is a growing thing at one size: a database, its nodes, and what is done to them.
type point struct {
	rig.Ending
	nodes []*rig.Node
	// step does something and returns how many units it was, when all of it has come.
	step func(ctx context.Context) (units int, err error)
}

// What a sample of growth has in its figures, in microseconds for each unit.
const (
	nodeCost = iota
	databaseCost
	wallCost
)

// grow measures all sizes of one thing, in turns, and adds a row for each.
func grow(ctx context.Context, b *rig.Bench, r *rig.Rig, g growing, to *compare.Table) (err error) {
	e := compare.Experiment{Title: "growth: " + g.name}
	var opened rig.Ending
	defer func() { err = errors.Join(err, opened.End()) }()
	for _, size := range g.sizes {
		p := &point{}
		opened.Add(p.End)
		if err := g.open(ctx, size, p); err != nil {
			return fmt.Errorf("%s: %s: %w", g.name, compare.Number(size), err)
		}
		e.Variants = append(e.Variants, compare.Variant{Name: compare.Number(size), Run: func(ctx context.Context) (compare.Sample, error) {
			return p.run(ctx, r, b.Pick(700*time.Millisecond, 300*time.Millisecond))
		}})
	}
	all, err := e.Measure(ctx, b.Fewer())
	if err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	for i, size := range g.sizes {
		row := []string{g.name, compare.Number(size), g.unit}
		for cost := range wallCost + 1 {
			row = append(row, compare.Spread(all.Pluck(compare.Number(size), func(s compare.Sample) float64 { return s.Figures[cost] })))
		}
		for _, cost := range []int{nodeCost, databaseCost} {
			if i == 0 {
				row = append(row, "")
				continue
			}
			row = append(row, compare.Spread(all.Each(func(run func(string) compare.Sample) float64 {
				return run(compare.Number(size)).Figures[cost] / run(compare.Number(g.sizes[i-1])).Figures[cost]
			})))
		}
		to.Add(row...)
	}
	return nil
}

// minSteps is how many steps a run has at least, however long they take.
const minSteps = 3

// run takes steps until length is over.
func (p *point) run(ctx context.Context, r *rig.Rig, length time.Duration) (compare.Sample, error) {
	servers := make([]int, len(p.nodes))
	for i, n := range p.nodes {
		servers[i] = n.PID()
	}
	m, err := rig.NewMeter(r.Postmaster(), servers...)
	if err != nil {
		return compare.Sample{}, err
	}
	units := 0
	for steps := 0; steps < minSteps || time.Since(m.Began) < length; steps++ {
		n, err := p.step(ctx)
		if err != nil {
			return compare.Sample{}, fmt.Errorf("step %d: %w", steps+1, err)
		}
		units += n
	}
	s, err := m.Sample()
	micros := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(units) }
	s.Figures = []float64{nodeCost: micros(s.CPU.Server), databaseCost: micros(s.CPU.Database), wallCost: micros(s.Wall)}
	return s, err
}
