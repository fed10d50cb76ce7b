//go:build unix

package fanout

import (
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bench/internal/bare"
	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/sink"
)

// gave returns what one run of a variant gave.
func gave(count, deliveries, responses float64, server time.Duration) []compare.Sample {
	return []compare.Sample{{Figures: []float64{count, deliveries, responses, 0.5}, Wall: 2 * time.Second, CPU: compare.Usage{Server: server}}}
}

func TestReportsRelateTheNodeToItsBareServer(t *testing.T) {
	for _, c := range []struct {
		transport *transport
		of        shape
		want      []string // of the rates, the costs, the goals
	}{
		{streams(), shape{1_000, 4}, []string{
			"| 1,000 | 4 | 32 | 1,000 (1,000–1,000) | 1,250 (1,250–1,250) | 2,000 (2,000–2,000) | 500 (500–500) | 0.50 (0.50–0.50) | 0.62 (0.62–0.62) | 2.00 (2.00–2.00) |\n",
			"| 1,000 | 4 | 32 | 10.0 | 32.0 | 16.0 | 2.00 | 2.00 | 1.00 | 0.50 | 0.00 | 0.50 | 20.0 |\n",
			"| Fan-out: 1,000 readers on 4 connections, 32 at a time, Postbus net of the sends / bare gRPC | ≥ 0.8 | 0.62 |",
		}},
		{web(sink.Events), shape{readers: 1_000}, []string{
			"| 1,000 | 32 | 1,000 (1,000–1,000) | 1,250 (1,250–1,250) | 2,000 (2,000–2,000) | 0.50 (0.50–0.50) | 0.62 (0.62–0.62) | 0.25 (0.25–0.25) |\n",
			"| 1,000 | 32 | 10.0 | 32.0 | 16.0 | 2.00 | 2.00 | 1.00 | 0.50 | 0.00 | 0.50 | 20.0 |\n",
			"| Fan-out by SSE: 1,000 readers, 32 at a time, Postbus net of the sends / bare server | ≥ 0.8 | 0.62 |",
		}},
	} {
		all := compare.Runs{
			throughNode:               gave(10, 1_000, 31.25, time.Second),
			c.transport.bares[0].name: gave(10, 1_000, 62.5, 500*time.Millisecond),
			c.transport.bares[1].name: gave(10, 1_000, 62.5, 2*time.Second),
			sendsAlone:                gave(5, 0, 0, 100*time.Millisecond),
		}
		var text strings.Builder
		out := &compare.Report{Writer: &text}
		if err := c.transport.add(out, c.of, 32, all); err != nil {
			t.Fatal(err)
		}
		c.transport.print(out)
		out.Summary()
		for _, want := range c.want {
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %q in\n%s", want, text.String())
			}
		}
	}
}

func TestPollsAreComparedWithPollsThatAreParked(t *testing.T) {
	for over, want := range map[string]string{sink.Polls: bare.Parked, sink.Events: bare.Strict, sink.Sockets: bare.Strict} {
		for _, each := range web(over).bares {
			if each.way != want {
				t.Errorf("%s: %s is sent %s, want %s", over, each.name, each.way, want)
			}
		}
	}
}
