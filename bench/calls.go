//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// conns is how many connections the callers share, as far as there are as many callers.
const conns = 4

// A load is how Send is called: by so many callers at once, each with one call under way.
type load struct {
	callers int
	size    int // messages in a call
	length  time.Duration
}

// rateColumns are the figures of measure.
func rateColumns() []string { return []string{"messages/s", "CPU µs a message", "cores busy"} }

// measure runs call by all callers and says what it gave and took. The CPU time is that
// of client, servers and database together.
func (l load) measure(ctx context.Context, m *meter, call func(ctx context.Context, caller int) error) (sample, error) {
	made, wall, err := hammer(ctx, l.callers, l.length, call)
	if err != nil {
		return sample{}, err
	}
	s, err := m.sample()
	messages, spent := float64(made)*float64(l.size), s.cpu.total().Seconds()
	s.figures = []float64{messages / wall.Seconds(), 1e6 * spent / messages, spent / s.wall.Seconds()}
	return s, err
}

// calls measures Send at targets. Each caller goes round its connections, which are spread
// over the targets.
func (l load) calls(ctx context.Context, targets []string, servers []int, postmaster int) (sample, error) {
	clients := make([]postbusv1.BusServiceClient, max(min(conns, l.callers), len(targets)))
	for i := range clients {
		conn, err := dial(targets[i%len(targets)])
		if err != nil {
			return sample{}, err
		}
		defer conn.Close()
		clients[i] = postbusv1.NewBusServiceClient(conn)
	}
	requests := make([]*postbusv1.SendRequest, l.callers)
	for i := range requests {
		requests[i] = &postbusv1.SendRequest{Messages: make([]*postbusv1.Message, l.size)}
		for j := range requests[i].Messages {
			requests[i].Messages[j] = &postbusv1.Message{
				Channel: fmt.Sprintf("bench-%d", i),
				Body:    &postbusv1.Message_Json{Json: payload()},
			}
		}
	}
	m, err := meterAll(servers, postmaster)
	if err != nil {
		return sample{}, err
	}
	rounds := make([]int, l.callers) // of each caller, used by it alone
	return l.measure(ctx, m, func(ctx context.Context, caller int) error {
		client := clients[(caller+rounds[caller])%len(clients)]
		rounds[caller]++
		response, err := client.Send(ctx, requests[caller])
		if err == nil && len(response.GetResults()) != l.size {
			return fmt.Errorf("%d results for %d messages", len(response.GetResults()), l.size)
		}
		return err
	})
}

// dial returns a connection to a gRPC server on this machine, with gRPC's defaults.
func dial(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
}
