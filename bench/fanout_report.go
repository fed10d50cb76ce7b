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
	rate := func(name string) func(func(string) sample) float64 {
		return func(run func(string) sample) float64 {
			return run(name).figures[burstDeliveries] / run(name).cpu.server.Seconds()
		}
	}
	net := func(run func(string) sample) float64 {
		whole, alone := run(throughNode), run(sendsAlone)
		sends := alone.cpu.server.Seconds() / alone.figures[burstCount] * whole.figures[burstCount]
		return whole.figures[burstDeliveries] / (whole.cpu.server.Seconds() - sends)
	}
	ratio := func(a, b func(func(string) sample) float64) []float64 {
		return each(samples, func(run func(string) sample) float64 { return a(run) / b(run) })
	}
	over := func(a, b func(func(string) sample) float64) string { return spread(ratio(a, b)) }
	node, strict, plain := rate(throughNode), rate(bareStrict), rate(barePlain)
	name := []string{number(of.readers), number(of.conns), number(size)}
	f.rates.add(append(name,
		spread(each(samples, node)), spread(each(samples, net)), spread(each(samples, strict)), spread(each(samples, plain)),
		over(node, strict), over(net, strict), over(node, plain))...)

	if goal, err := parseGoal("≥ 0.8"); err == nil {
		f.out.add(fmt.Sprintf("Fan-out: %s readers on %s connections, %s at a time, Postbus net of the sends / bare gRPC", name[0], name[1], name[2]),
			goal[0], ratio(net, strict))
	}

	middle := func(name string, of func(sample) float64) string { return figure(median(pluck(samples[name], of))) }
	batch := func(s sample) float64 { return s.figures[burstDeliveries] / s.figures[burstResponses] }
	wall := func(s sample) float64 { return s.wall.Seconds() }
	f.costs.add(append(name,
		middle(throughNode, func(s sample) float64 { return s.figures[burstCount] }),
		middle(throughNode, batch), middle(bareStrict, batch),
		middle(throughNode, wall), middle(bareStrict, wall),
		middle(throughNode, serverCPU), middle(throughNode, func(s sample) float64 { return s.figures[burstSinkCPU] }),
		middle(throughNode, func(s sample) float64 { return s.cpu.database.Seconds() }), middle(bareStrict, serverCPU),
		middle(sendsAlone, func(s sample) float64 { return 1000 * serverCPU(s) / s.figures[burstCount] }))...)
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
