//go:build unix

package fanout

import (
	"fmt"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/sink"
)

// The variants beside those of the bare server.
const (
	throughNode = "Postbus"
	sendsAlone  = "sends without readers"
)

// A report gathers the rows of one transport.
type report struct {
	title, text  string
	peer         string  // the bare server, in the goals
	bare         bareWay // whom the goals and the costs are beside
	columns      []column
	rates, costs compare.Table
}

// A column has one number of each repetition.
type column struct {
	name string
	of   number
}

// A number is made of what the variants gave in one repetition.
type number func(run func(name string) compare.Sample) float64

func streamsReport(of [2]bareWay) report {
	node, strict, plain := rate(throughNode), rate(of[0].name), rate(of[1].name)
	return newReport(report{
		title: "Fan-out", peer: "bare gRPC", bare: of[0],
		text: text("a stream of its own, spread over the connections",
			"a grpc-go server with the node's options that sends prepared bytes, a burst in one response and one buffer, to the same streams: strict, from as many loops as cores, "+
				"the streams of a connection in the same loop; plain, from a goroutine for each stream",
			"The readers are another process, HTTP/2 by hand."),
		columns: []column{
			{"bare, strict", strict},
			{"bare, plain", plain},
			{"Postbus / strict", over(node, strict)},
			{"net / strict (goal ≥ 0.8)", over(netOfSends, strict)},
			{"Postbus / plain", over(node, plain)},
		},
	}, "readers", "connections", "at a time")
}

func webReport(by string, of [2]bareWay) report {
	once, again := rate(of[0].name), rate(of[1].name)
	return newReport(report{
		title: "Fan-out by " + by, peer: "bare server", bare: of[0],
		text: text("a connection of its own", bareText[by],
			"Bare, again: against itself, which says what a difference means. The readers are another process."),
		columns: []column{
			{"bare", once},
			{"Postbus / bare", over(rate(throughNode), once)},
			{"net / bare (goal ≥ 0.8)", over(netOfSends, once)},
			{"bare, again / bare", over(again, once)},
		},
	}, "readers", "at a time")
}

// text says what was done. behind is what comes before its last sentence.
func text(each, bare, behind string) string {
	return "All readers read one channel, each on " + each + ". A burst of messages of 200 bytes is sent in one call; " +
		"the next one when every reader has got it, at the pace of the node, which is that of its database, for all. Delivered messages per second of CPU time of the server process alone; a run ends when that has spent its budget. " +
		"Bare: " + bare + ". " +
		"Net: less the CPU time of as many sends to a channel without readers, measured in the same turns. " +
		behind + " Each has got each message once: ids ascend, and the count is right."
}

// bareText says what the bare server of HTTP does.
var bareText = map[string]string{
	sink.Events:  "a net/http handler that writes and flushes prepared events, from as many loops as cores",
	sink.Sockets: "a WebSocket server of the same library that writes prepared messages, from as many loops as cores",
	sink.Polls:   "a net/http handler that parks the requests and answers all with the same prepared bytes. All ask again, with the last that they were given",
}

// newReport adds the columns that all have, and the headers.
func newReport(r report, names ...string) report {
	r.columns = append([]column{{"Postbus: messages/CPU s", rate(throughNode)}, {"net of the sends", netOfSends}}, r.columns...)
	for _, each := range names {
		r.rates.Header, r.costs.Header = append(r.rates.Header, each), append(r.costs.Header, each)
	}
	for _, each := range r.columns {
		r.rates.Header = append(r.rates.Header, each.name)
	}
	bare := r.bare.short
	r.costs.Header = append(r.costs.Header, "bursts of Postbus", "messages a response: Postbus", bare,
		"wall s: Postbus", bare, "CPU s: Postbus", "its client", "its database", bare, "CPU ms a send without readers")
	return r
}

// add adds what one shape gave with bursts of size, and judges it.
func (r *report) add(out *compare.Report, of shape, size int, all compare.Runs) error {
	row := []string{compare.Number(of.readers)}
	who := row[0] + " readers"
	if of.conns > 0 {
		row = append(row, compare.Number(of.conns))
		who += " on " + row[1] + " connections"
	}
	row = append(row, compare.Number(size))
	r.costs.Add(append(row[:len(row):len(row)], costsOf(all, r.bare.name)...)...)
	for _, each := range r.columns {
		row = append(row, compare.Spread(all.Each(each.of)))
	}
	r.rates.Add(row...)
	return out.Add(fmt.Sprintf("%s: %s, %s at a time, Postbus net of the sends / %s", r.title, who, compare.Number(size), r.peer),
		"≥ 0.8", all.Each(over(netOfSends, rate(r.bare.name))))
}

func (r *report) print(out *compare.Report) {
	out.Section(r.title, r.text)
	r.rates.Print(out)
	r.costs.Print(out)
}

// rate is the messages that a variant has delivered per second of its server's CPU time.
func rate(name string) number {
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

// over is the ratio of two numbers, within each repetition.
func over(a, b number) number {
	return func(run func(string) compare.Sample) float64 { return a(run) / b(run) }
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
