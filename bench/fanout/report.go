//go:build unix

package fanout

import (
	"fmt"

	"github.com/postbus/postbus/bench/internal/compare"
)

// The variants of fanout.
const (
	throughNode = "Postbus"
	bareStrict  = "bare, strict"
	barePlain   = "bare, plain"
	sendsAlone  = "sends without readers"
)

// A streamsReport gathers the rows of fanout.
type streamsReport struct {
	out          *compare.Report
	rates, costs compare.Table
}

func newStreamsReport(out *compare.Report) *streamsReport {
	return &streamsReport{
		out: out,
		rates: compare.Table{Header: []string{
			"readers", "connections", "at a time", "Postbus: messages/CPU s", "net of the sends", "bare, strict", "bare, plain",
			"Postbus / strict", "net / strict (goal ≥ 0.8)", "Postbus / plain",
		}},
		costs: compare.Table{Header: []string{
			"readers", "connections", "at a time", "bursts of Postbus", "messages a response: Postbus", "strict",
			"wall s: Postbus", "strict", "CPU s: Postbus", "its client", "its database", "strict", "CPU ms a send without readers",
		}},
	}
}

// add adds what one shape gave with bursts of size.
func (f *streamsReport) add(of shape, size int, all compare.Runs) error {
	over := func(a, b func(func(string) compare.Sample) float64) string { return compare.Spread(ratioOf(all, a, b)) }
	node, net, strict, plain := rate(throughNode), netOfSends, rate(bareStrict), rate(barePlain)
	name := []string{compare.Number(of.readers), compare.Number(of.conns), compare.Number(size)}
	f.rates.Add(append(name,
		compare.Spread(all.Each(node)), compare.Spread(all.Each(net)), compare.Spread(all.Each(strict)), compare.Spread(all.Each(plain)),
		over(node, strict), over(net, strict), over(node, plain))...)

	f.costs.Add(append(name, costsOf(all, bareStrict)...)...)
	return f.out.Add(fmt.Sprintf("Fan-out: %s readers on %s connections, %s at a time, Postbus net of the sends / bare gRPC", name[0], name[1], name[2]),
		"≥ 0.8", ratioOf(all, net, strict))
}

// rate returns the messages that a variant has delivered per second of its server's CPU time.
func rate(name string) func(func(string) compare.Sample) float64 {
	return func(run func(string) compare.Sample) float64 {
		return run(name).Figures[burstDeliveries] / serverCPU(run(name))
	}
}

// netOfSends is rate(throughNode), less what as many sends cost without readers.
func netOfSends(run func(name string) compare.Sample) float64 {
	whole, alone := run(throughNode), run(sendsAlone)
	sends := serverCPU(alone) / alone.Figures[burstCount] * whole.Figures[burstCount]
	return whole.Figures[burstDeliveries] / (serverCPU(whole) - sends)
}

// ratioOf returns a over b of each repetition.
func ratioOf(all compare.Runs, a, b func(func(string) compare.Sample) float64) []float64 {
	return all.Each(func(run func(string) compare.Sample) float64 { return a(run) / b(run) })
}

// costsOf returns the cells of a row of costs.
func costsOf(all compare.Runs, bare string) []string {
	middle := func(name string, of func(compare.Sample) float64) string {
		return compare.Figure(compare.Median(all.Pluck(name, of)))
	}
	batch := func(s compare.Sample) float64 { return s.Figures[burstDeliveries] / s.Figures[burstResponses] }
	wall := func(s compare.Sample) float64 { return s.Wall.Seconds() }
	return []string{
		middle(throughNode, func(s compare.Sample) float64 { return s.Figures[burstCount] }),
		middle(throughNode, batch), middle(bare, batch),
		middle(throughNode, wall), middle(bare, wall),
		middle(throughNode, serverCPU), middle(throughNode, func(s compare.Sample) float64 { return s.Figures[burstSinkCPU] }),
		middle(throughNode, func(s compare.Sample) float64 { return s.CPU.Database.Seconds() }), middle(bare, serverCPU),
		middle(sendsAlone, func(s compare.Sample) float64 { return 1000 * serverCPU(s) / s.Figures[burstCount] }),
	}
}

func serverCPU(s compare.Sample) float64 { return s.CPU.Server.Seconds() }

func (f *streamsReport) print() {
	f.out.Section("Fan-out", "All readers read one channel, each on a stream of its own, spread over the connections. A burst of messages of 200 bytes is sent in one call; "+
		"the next one when every reader has got it, at the pace of the node, which is that of its database, for all. Delivered messages per second of CPU time of the server process alone; a run ends when that has spent its budget. "+
		"Bare: a grpc-go server with the node's options that sends prepared bytes, a burst in one response and one buffer, to the same streams: strict, from as many loops as cores, "+
		"the streams of a connection in the same loop; plain, from a goroutine for each stream. Net: less the CPU time of as many sends to a channel without readers, measured in the same turns. "+
		"The readers are another process, HTTP/2 by hand. Each has got each message once: ids ascend, and the count is right.")
	f.rates.Print(f.out)
	f.costs.Print(f.out)
}
