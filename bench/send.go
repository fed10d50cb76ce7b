//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const (
	callers = 64
	conns   = 4

	// writers is how many statements a node's writer keeps in flight
	// (groupcommit.Options.InFlight).
	writers = 2
)

// payload is a JSON text of 200 bytes.
func payload() string {
	return `{"order": 7, "text": "` + strings.Repeat("x", 200-24) + `"}`
}

// send measures what Send gives to many callers, beside gRPC and PostgreSQL alone.
func (b *bench) send(ctx context.Context) (err error) {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	n, err := startNode(ctx, b.program, r.nodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.end()) }()
	bare, err := startEcho(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.end()) }()
	for _, size := range []int{1, 100} {
		if err := b.sendSize(ctx, r, n, bare, size); err != nil {
			return err
		}
	}
	return nil
}

// sendSize is send with so many messages in each call.
func (b *bench) sendSize(ctx context.Context, r *rig, n *node, bare *part, size int) error {
	mean := 1.0 // rows that the node stored in a statement, the last time it was measured
	throughNode := func(ctx context.Context) (sample, error) {
		before, err := n.stored(ctx)
		if err != nil {
			return sample{}, err
		}
		s, err := b.calls(ctx, n.grpcAddr, size, n.process.pid(), r.postgres.PID())
		if err != nil {
			return s, err
		}
		after, err := n.stored(ctx)
		mean = (after.messages - before.messages) / (after.batches - before.batches)
		s.figures = append(s.figures, mean)
		return s, err
	}
	const node, again, grpcAlone, rowsAlone = "Postbus", "Postbus, again", "a: gRPC alone", "b: INSERT alone"
	e := experiment{
		title: fmt.Sprintf("Send, %d a call", size),
		text: fmt.Sprintf("%d callers on %d connections, %d messages of 200 bytes of JSON a call. a: an empty unary grpc-go server, the same requests, as many results. "+
			"b: INSERTs of as many rows as Postbus stored in a statement, over %d connections, into the same table of a database that nobody follows.", callers, conns, size, writers),
		columns: []string{"messages/s", "rows a statement"},
		variants: []variant{
			{node, "", throughNode},
			{grpcAlone, "", func(ctx context.Context) (sample, error) {
				s, err := b.calls(ctx, bare.addr, size, bare.process.pid(), r.postgres.PID())
				s.figures = append(s.figures, 0)
				return s, err
			}},
			{rowsAlone, "", func(ctx context.Context) (sample, error) { return b.inserts(ctx, r, mean) }},
			{again, "", throughNode},
		},
		ratios: []ratio{
			{"Postbus / (a and b, one after the other: 1/(1/a + 1/b))", "≥ 0.6", func(f map[string][]float64) float64 {
				return f[node][0] / inSeries(f[grpcAlone][0], f[rowsAlone][0])
			}},
			{"Postbus / a", "", divide(node, grpcAlone, 0)},
			{"Postbus / b", "", divide(node, rowsAlone, 0)},
			{"Postbus against itself", "", divide(again, node, 0)},
		},
	}
	return e.perform(ctx, b.reps, b.out)
}

// calls measures Send at target.
func (b *bench) calls(ctx context.Context, target string, size, server, postmaster int) (sample, error) {
	clients := make([]postbusv1.BusServiceClient, conns)
	for i := range clients {
		conn, err := dial(target)
		if err != nil {
			return sample{}, err
		}
		defer conn.Close()
		clients[i] = postbusv1.NewBusServiceClient(conn)
	}
	requests := make([]*postbusv1.SendRequest, callers)
	for i := range requests {
		requests[i] = &postbusv1.SendRequest{Messages: make([]*postbusv1.Message, size)}
		for j := range requests[i].Messages {
			requests[i].Messages[j] = &postbusv1.Message{
				Channel: fmt.Sprintf("bench-%d", i),
				Body:    &postbusv1.Message_Json{Json: payload()},
			}
		}
	}
	m, err := newMeter(server, postmaster)
	if err != nil {
		return sample{}, err
	}
	made, wall, err := hammer(ctx, callers, b.length, func(ctx context.Context, caller int) error {
		response, err := clients[caller%conns].Send(ctx, requests[caller])
		if err == nil && len(response.GetResults()) != size {
			return fmt.Errorf("%d results for %d messages", len(response.GetResults()), size)
		}
		return err
	})
	if err != nil {
		return sample{}, err
	}
	return m.sample(float64(made) * float64(size) / wall.Seconds())
}

// dial returns a connection to a gRPC server on this machine, with gRPC's defaults.
func dial(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// inserts measures bare INSERTs of mean rows, in statements that commit by themselves.
func (b *bench) inserts(ctx context.Context, r *rig, mean float64) (sample, error) {
	sessions, end, err := connect(ctx, r.plainURL, writers)
	if err != nil {
		return sample{}, err
	}
	defer end()
	const statement = "INSERT INTO postbus.bus (channel, type, json) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])"
	for _, session := range sessions {
		if _, err := session.Prepare(ctx, "insert", statement); err != nil {
			return sample{}, err
		}
	}
	most := int(mean) + 1
	channels, types, bodies := make([]string, most), make([]string, most), make([]string, most)
	for i := range most {
		channels[i], bodies[i] = fmt.Sprintf("bench-%d", i%callers), payload()
	}
	m, err := newMeter(0, r.postgres.PID())
	if err != nil {
		return sample{}, err
	}
	var statements, stored atomic.Int64
	_, wall, err := hammer(ctx, writers, b.length, func(ctx context.Context, writer int) error {
		n := rowsOf(statements.Add(1)-1, mean)
		stored.Add(int64(n))
		_, err := sessions[writer].Exec(ctx, "insert", channels[:n], types[:n], bodies[:n])
		return err
	})
	if err != nil {
		return sample{}, err
	}
	return m.sample(float64(stored.Load())/wall.Seconds(), float64(stored.Load())/float64(statements.Load()))
}

// rowsOf returns how many rows the i-th statement has, so that all of them together have
// the given mean and none is empty.
func rowsOf(i int64, mean float64) int {
	mean = max(mean, 1)
	return int(int64(float64(i+1)*mean) - int64(float64(i)*mean))
}

// connect opens n sessions; end closes them.
func connect(ctx context.Context, address string, n int) (sessions []*pgx.Conn, end func(), err error) {
	end = func() {
		for _, session := range sessions {
			session.Close(context.WithoutCancel(ctx))
		}
	}
	for range n {
		session, err := pgx.Connect(ctx, address)
		if err != nil {
			end()
			return nil, nil, err
		}
		sessions = append(sessions, session)
	}
	return sessions, end, nil
}

// stored is what a node's writer has done since its start.
type stored struct{ messages, batches float64 }

func (n *node) stored(ctx context.Context) (stored, error) {
	messages, err := n.metric(ctx, "postbus_send_messages_total")
	if err != nil {
		return stored{}, err
	}
	batches, err := n.metric(ctx, "postbus_send_batches_total")
	return stored{messages, batches}, err
}
