//go:build unix

package main

import "fmt"

// A webReport gathers the rows of httpfanout.
type webReport struct {
	out          *report
	over         string
	rates, costs table
}

func newWebReport(out *report, over string) *webReport {
	return &webReport{
		out: out, over: over,
		rates: table{header: []string{
			"readers", "at a time", "Postbus: messages/CPU s", "net of the sends", "bare",
			"Postbus / bare", "net / bare (goal ≥ 0.8)", "bare, again / bare",
		}},
		costs: table{header: []string{
			"readers", "at a time", "bursts of Postbus", "messages a response: Postbus", "bare",
			"wall s: Postbus", "bare", "CPU s: Postbus", "its client", "its database", "bare", "CPU ms a send without readers",
		}},
	}
}

// add adds what readers gave with bursts of size.
func (f *webReport) add(readers, size int, samples map[string][]sample) {
	node, net, bare := rate(throughNode), netOfSends, rate(bareServed)
	name := []string{number(readers), number(size)}
	f.rates.add(append(name,
		spread(each(samples, node)), spread(each(samples, net)), spread(each(samples, bare)),
		spread(ratioOf(samples, node, bare)), spread(ratioOf(samples, net, bare)), spread(ratioOf(samples, rate(bareAgain), bare)))...)
	if goal, err := parseGoal("≥ 0.8"); err == nil {
		f.out.add(fmt.Sprintf("Fan-out by %s: %s readers, %s at a time, Postbus net of the sends / bare server", f.over, name[0], name[1]),
			goal[0], ratioOf(samples, net, bare))
	}
	f.costs.add(append(name, costsOf(samples, bareServed)...)...)
}

// bareText says what the bare server does.
var bareText = map[string]string{
	overEvents:  "a net/http handler that writes and flushes prepared events, from as many loops as cores",
	overSockets: "a WebSocket server of the same library that writes prepared messages, from as many loops as cores",
	overPolls:   "a net/http handler that parks the requests and answers all with the same prepared bytes. All ask again, with the last that they were given",
}

func (f *webReport) print() {
	printSection(f.out, "Fan-out by "+f.over, "All readers read one channel, each on a connection of its own. A burst of messages of 200 bytes is sent in one call; "+
		"the next one when every reader has got it, at the pace of the node, which is that of its database, for all. Delivered messages per second of CPU time of the server process alone; a run ends when that has spent its budget. "+
		"Bare: "+bareText[f.over]+". "+
		"Net: less the CPU time of as many sends to a channel without readers, measured in the same turns. Bare, again: against itself, which says what a difference means. "+
		"The readers are another process. Each has got each message once: ids ascend, and the count is right.")
	f.rates.print(f.out)
	f.costs.print(f.out)
}
