//go:build unix

package main

import (
	"fmt"
	"strconv"
)

// The variants of fanout.
const (
	throughNode = "Postbus"
	bareStrict  = "bare, strict"
	barePlain   = "bare, plain"
	sendsAlone  = "sends without readers"
)

// A fanoutReport gathers the rows of fanout.
type fanoutReport struct {
	out          *report
	rates, costs table
}

func newFanoutReport(out *report) *fanoutReport {
	return &fanoutReport{
		out: out,
		rates: table{header: []string{
			"readers", "connections", "at a time", "Postbus: messages/CPU s", "net of the sends", "bare, strict", "bare, plain",
			"Postbus / strict", "net / strict (goal ≥ 0.8)", "Postbus / plain",
		}},
		costs: table{header: []string{
			"readers", "connections", "at a time", "bursts of Postbus", "messages a response: Postbus", "strict",
			"wall s: Postbus", "strict", "CPU s: Postbus", "its client", "its database", "strict", "CPU ms a send without readers",
		}},
	}
}

// add adds what one shape gave with bursts of size.
func (f *fanoutReport) add(of shape, size int, samples map[string][]sample) {
	over := func(a, b func(func(string) sample) float64) string { return spread(ratioOf(samples, a, b)) }
	node, net, strict, plain := rate(throughNode), netOfSends, rate(bareStrict), rate(barePlain)
	name := []string{number(of.readers), number(of.conns), number(size)}
	f.rates.add(append(name,
		spread(each(samples, node)), spread(each(samples, net)), spread(each(samples, strict)), spread(each(samples, plain)),
		over(node, strict), over(net, strict), over(node, plain))...)

	if goal, err := parseGoal("≥ 0.8"); err == nil {
		f.out.add(fmt.Sprintf("Fan-out: %s readers on %s connections, %s at a time, Postbus net of the sends / bare gRPC", name[0], name[1], name[2]),
			goal[0], ratioOf(samples, net, strict))
	}

	f.costs.add(append(name, costsOf(samples, bareStrict)...)...)
}

// rate returns the messages that a variant has delivered per second of its server's CPU time.
func rate(name string) func(func(string) sample) float64 {
	return func(run func(string) sample) float64 {
		return run(name).figures[burstDeliveries] / serverCPU(run(name))
	}
}

// netOfSends is rate(throughNode), less what as many sends cost without readers.
func netOfSends(run func(name string) sample) float64 {
	whole, alone := run(throughNode), run(sendsAlone)
	sends := serverCPU(alone) / alone.figures[burstCount] * whole.figures[burstCount]
	return whole.figures[burstDeliveries] / (serverCPU(whole) - sends)
}

// ratioOf returns a over b of each repetition.
func ratioOf(samples map[string][]sample, a, b func(func(string) sample) float64) []float64 {
	return each(samples, func(run func(string) sample) float64 { return a(run) / b(run) })
}

// costsOf returns the cells of a row of costs.
func costsOf(samples map[string][]sample, bare string) []string {
	middle := func(name string, of func(sample) float64) string { return figure(median(pluck(samples[name], of))) }
	batch := func(s sample) float64 { return s.figures[burstDeliveries] / s.figures[burstResponses] }
	wall := func(s sample) float64 { return s.wall.Seconds() }
	return []string{
		middle(throughNode, func(s sample) float64 { return s.figures[burstCount] }),
		middle(throughNode, batch), middle(bare, batch),
		middle(throughNode, wall), middle(bare, wall),
		middle(throughNode, serverCPU), middle(throughNode, func(s sample) float64 { return s.figures[burstSinkCPU] }),
		middle(throughNode, func(s sample) float64 { return s.cpu.database.Seconds() }), middle(bare, serverCPU),
		middle(sendsAlone, func(s sample) float64 { return 1000 * serverCPU(s) / s.figures[burstCount] }),
	}
}

// number writes a whole number.
func number(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return figure(float64(n))
}

func serverCPU(s sample) float64 { return s.cpu.server.Seconds() }

func (f *fanoutReport) print() {
	printSection(f.out, "Fan-out", "All readers read one channel, each on a stream of its own, spread over the connections. A burst of messages of 200 bytes is sent in one call; "+
		"the next one when every reader has got it, at the pace of the node, which is that of its database, for all. Delivered messages per second of CPU time of the server process alone; a run ends when that has spent its budget. "+
		"Bare: a grpc-go server with the node's options that sends prepared bytes, a burst in one response and one buffer, to the same streams: strict, from as many loops as cores, "+
		"the streams of a connection in the same loop; plain, from a goroutine for each stream. Net: less the CPU time of as many sends to a channel without readers, measured in the same turns. "+
		"The readers are another process, HTTP/2 by hand. Each has got each message once: ids ascend, and the count is right.")
	f.rates.print(f.out)
	f.costs.print(f.out)
}
