package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// registry returns everything that /metrics shows: Go's runtime, the process, and what
// the node's parts report when they are asked.
func (n *node) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsScheduler, collectors.MetricsGC, collectors.MetricsMemory)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&nodeCollector{node: n},
	)
	return r
}

// A nodeCollector reads the states of the node's parts at each scrape.
type nodeCollector struct{ node *node }

// Describe makes the collector an unchecked one: its metrics are made at each scrape.
func (*nodeCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reports the node's own metrics.
func (c *nodeCollector) Collect(out chan<- prometheus.Metric) {
	emit := func(kind prometheus.ValueType, name, help string, value float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("postbus_"+name, help, nil, nil), kind, value)
	}
	gauge := func(name, help string, value float64) { emit(prometheus.GaugeValue, name, help, value) }
	counter := func(name, help string, value int64) { emit(prometheus.CounterValue, name, help, float64(value)) }
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}

	ready, _ := c.node.ready()
	gauge("ready", "1 when the node serves.", truth(ready))

	d := c.node.dispatcher.State()
	gauge("pos", "The last settled id: what this node has delivered up to.", float64(d.Pos))
	gauge("head", "The highest id that this node has seen.", float64(d.Head))
	gauge("lag", "Ids between pos and head.", float64(max(0, d.Head-d.Pos)))
	gauge("tail_connected", "1 when the tail is being followed.", truth(d.Connected))
	gauge("tail_listening", "1 when the connection hears the bell, 0 when it polls.", truth(d.Listening))
	gauge("tail_sleeping", "1 when the node waits for the bell.", truth(d.Sleeping))
	gauge("tail_held_seconds", "How long the oldest open gap has been open; 0 without one.", d.Held.Seconds())
	gauge("tail_holders", "Transactions that hold the tail up for a second or more.", float64(len(d.Holders)))
	counter("tail_reconnects_total", "Connections of the tail that were lost.", d.Reconnects)
	counter("tail_reads_total", "Reads of the tail.", d.Reads)
	counter("tail_probes_total", "Questions to the database who holds a gap open.", d.Probes)
	counter("bells_total", "Bells that woke this node.", d.Bells)
	counter("missed_bells_total", "Reads in which only the fallback found something.", d.MissedBells)
	counter("stalls_total", "Streams that did not take what was sent and got a goroutine of their own.", d.Stalls)
	gauge("subscriptions", "Cursors: open streams and polls.", float64(d.Subscriptions))
	gauge("memberships", "Channels of all cursors together.", float64(d.Memberships))
	gauge("pages_waiting", "Readers that wait for a read of the table.", float64(d.PagesWaiting))
	gauge("window_messages", "Messages in the window.", float64(d.WindowMessages))
	gauge("window_bytes", "Bytes in the window.", float64(d.WindowBytes))
	counter("pages_total", "Pages read from the table for readers behind the window.", d.Pages)
	counter("delivered_total", "Notifications handed to streams and polls.", d.Delivered)

	w := c.node.writer.State()
	gauge("send_queue_messages", "Messages accepted and not yet answered.", float64(w.Queued))
	gauge("send_queue_bytes", "Their bytes.", float64(w.QueuedBytes))
	counter("send_batches_total", "Statements that stored messages.", w.Batches)
	counter("sends_total", "Sends that they stored.", w.Sends)
	counter("send_messages_total", "Messages that these had.", w.Messages)

	s := c.node.service.Stats()
	gauge("streams", "Streams open now, of every transport.", float64(s.OpenStreams))
	gauge("polls", "Polls open now.", float64(s.OpenPolls))
	gauge("watches", "Health watches and reflection streams open now.", float64(s.OpenWatches))
	gauge("requests", "Requests being received, and sends being answered.", float64(s.Requests))
	gauge("request_bytes", "Bytes of requests being received.", float64(s.RequestBytes))
	gauge("grpc_connections", "Connections of gRPC.", float64(s.GRPCGuests))
	gauge("http_connections", "Connections of HTTP.", float64(s.HTTPGuests))
	counter("duplicates_total", "Messages that were not stored because of their key.", s.Duplicates)
	counter("polls_total", "Polls answered without an error.", s.Polls)
	counter("heartbeats_total", "Responses of streams without notifications.", s.Heartbeats)
	counter("gaps_total", "Gaps told.", s.Gaps)
	faults := prometheus.NewDesc("postbus_faults_total", "Requests refused or failed, by reason.", []string{"reason"}, nil)
	for reason, n := range s.Faults {
		out <- prometheus.MustNewConstMetric(faults, prometheus.CounterValue, float64(n), reason)
	}
}
