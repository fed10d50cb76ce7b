//go:build unix

package fanout

import (
	"fmt"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/sink"
)

// A webReport gathers the rows of httpfanout.
type webReport struct {
	out          *compare.Report
	over         string
	rates, costs compare.Table
}

func newWebReport(out *compare.Report, over string) *webReport {
	return &webReport{
		out: out, over: over,
		rates: compare.Table{Header: []string{
			"readers", "at a time", "Postbus: messages/CPU s", "net of the sends", "bare",
			"Postbus / bare", "net / bare (goal ≥ 0.8)", "bare, again / bare",
		}},
		costs: compare.Table{Header: []string{
			"readers", "at a time", "bursts of Postbus", "messages a response: Postbus", "bare",
			"wall s: Postbus", "bare", "CPU s: Postbus", "its client", "its database", "bare", "CPU ms a send without readers",
		}},
	}
}

// add adds what readers gave with bursts of size.
func (f *webReport) add(readers, size int, all compare.Runs) error {
	node, net, bare := rate(throughNode), netOfSends, rate(bareServed)
	name := []string{compare.Number(readers), compare.Number(size)}
	f.rates.Add(append(name,
		compare.Spread(all.Each(node)), compare.Spread(all.Each(net)), compare.Spread(all.Each(bare)),
		compare.Spread(ratioOf(all, node, bare)), compare.Spread(ratioOf(all, net, bare)), compare.Spread(ratioOf(all, rate(bareAgain), bare)))...)
	f.costs.Add(append(name, costsOf(all, bareServed)...)...)
	return f.out.Add(fmt.Sprintf("Fan-out by %s: %s readers, %s at a time, Postbus net of the sends / bare server", f.over, name[0], name[1]),
		"≥ 0.8", ratioOf(all, net, bare))
}

// bareText says what the bare server does.
var bareText = map[string]string{
	sink.Events:  "a net/http handler that writes and flushes prepared events, from as many loops as cores",
	sink.Sockets: "a WebSocket server of the same library that writes prepared messages, from as many loops as cores",
	sink.Polls:   "a net/http handler that parks the requests and answers all with the same prepared bytes. All ask again, with the last that they were given",
}

func (f *webReport) print() {
	f.out.Section("Fan-out by "+f.over, "All readers read one channel, each on a connection of its own. A burst of messages of 200 bytes is sent in one call; "+
		"the next one when every reader has got it, at the pace of the node, which is that of its database, for all. Delivered messages per second of CPU time of the server process alone; a run ends when that has spent its budget. "+
		"Bare: "+bareText[f.over]+". "+
		"Net: less the CPU time of as many sends to a channel without readers, measured in the same turns. Bare, again: against itself, which says what a difference means. "+
		"The readers are another process. Each has got each message once: ids ascend, and the count is right.")
	f.rates.Print(f.out)
	f.costs.Print(f.out)
}
