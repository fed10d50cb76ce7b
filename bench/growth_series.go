//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// An ending is what has to be ended, the last first.
type ending []func() error

func (e *ending) add(f func() error) { *e = append(*e, f) }

func (e *ending) end() error {
	var all []error
	for i := len(*e) - 1; i >= 0; i-- {
		all = append(all, (*e)[i]())
	}
	*e = nil
	return errors.Join(all...)
}

// A growing is one thing that grows while the rest stays.
type growing struct {
	name  string // what grows
	unit  string // what the costs are of
	sizes []int
	open  func(ctx context.Context, size int, p *point) error
}

// A point is a growing thing at one size: a database, its nodes, and what is done to them.
type point struct {
	ending
	nodes []*node
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
func (b *bench) grow(ctx context.Context, r *rig, g growing, to *table) (err error) {
	var rounds []round
	var all ending
	defer func() { err = errors.Join(err, all.end()) }()
	for _, size := range g.sizes {
		p := &point{}
		all.add(p.end)
		if err := g.open(ctx, size, p); err != nil {
			return fmt.Errorf("%s: %s: %w", g.name, number(size), err)
		}
		rounds = append(rounds, round{number(size), func(ctx context.Context) (sample, error) {
			return p.run(ctx, r, b.pick(700*time.Millisecond, 300*time.Millisecond))
		}})
	}
	samples, err := b.rounds(ctx, "growth: "+g.name, rounds)
	if err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	for i, size := range g.sizes {
		row := []string{g.name, number(size), g.unit}
		for cost := range wallCost + 1 {
			row = append(row, spread(pluck(samples[number(size)], func(s sample) float64 { return s.figures[cost] })))
		}
		for _, cost := range []int{nodeCost, databaseCost} {
			if i == 0 {
				row = append(row, "")
				continue
			}
			row = append(row, spread(each(samples, func(run func(string) sample) float64 {
				return run(number(size)).figures[cost] / run(number(g.sizes[i-1])).figures[cost]
			})))
		}
		to.add(row...)
	}
	return nil
}

// run takes steps until length is over.
func (p *point) run(ctx context.Context, r *rig, length time.Duration) (sample, error) {
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	m, err := newMeter(0, r.postgres.PID())
	if err != nil {
		return sample{}, err
	}
	units := 0
	for steps := 0; steps < minBursts || time.Since(m.began) < length; steps++ {
		n, err := p.step(ctx)
		if err != nil {
			return sample{}, fmt.Errorf("step %d: %w", steps+1, err)
		}
		units += n
	}
	s, err := m.sample()
	if err != nil {
		return s, err
	}
	after, err := p.cpu()
	s.cpu.server = after - before
	micros := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(units) }
	s.figures = []float64{nodeCost: micros(s.cpu.server), databaseCost: micros(s.cpu.database), wallCost: micros(s.wall)}
	return s, err
}

// cpu returns the CPU time of all nodes together.
func (p *point) cpu() (total time.Duration, err error) {
	for _, n := range p.nodes {
		stat, err := readStat(strconv.Itoa(n.process.pid()))
		if err != nil {
			return 0, err
		}
		total += stat.own
	}
	return total, nil
}
