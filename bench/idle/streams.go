//go:build unix

package idle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/postbus/postbus/bench/internal/bare"
	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const streamCount = 10_000

// Streams measures the memory that an idle stream takes in the server.
func Streams(ctx context.Context, b *rig.Bench) (err error) {
	if err := rig.NeedFiles(streamCount); err != nil {
		return err
	}
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()

	onNode := func(conns int) func(context.Context) (compare.Sample, error) {
		return func(ctx context.Context) (s compare.Sample, err error) {
			n, err := r.StartNode(ctx, r.NodeURL)
			if err != nil {
				return s, err
			}
			defer func() { err = errors.Join(err, n.End()) }()
			return bytesPerStream(ctx, n.GRPCAddr, conns, n.PID(), r.Postmaster(), func() (float64, error) { return n.Resident(ctx) })
		}
	}
	onEcho := func(conns int) func(context.Context) (compare.Sample, error) {
		return func(ctx context.Context) (s compare.Sample, err error) {
			echo, err := bare.StartEcho(ctx)
			if err != nil {
				return s, err
			}
			defer func() { err = errors.Join(err, echo.End()) }()
			return bytesPerStream(ctx, echo.Addr, conns, echo.PID(), r.Postmaster(), echo.Resident)
		}
	}
	const few, many = 100, streamCount
	node := func(conns int) string { return fmt.Sprintf("Postbus, %s connections", compare.Figure(float64(conns))) }
	alone := func(conns int) string {
		return fmt.Sprintf("gRPC alone, %s connections", compare.Figure(float64(conns)))
	}
	e := compare.Experiment{
		Title: "Memory of an idle stream",
		Text: fmt.Sprintf("%s Subscribe streams, each on a channel of its own, from another process, to a server just started; resident memory after a forced collection less that before, "+
			"for each stream. gRPC alone: an empty stream handler. The wall time is that of opening and collecting.", compare.Figure(streamCount)),
		Columns: []string{"KB a stream"},
		Variants: []compare.Variant{
			{Name: node(few), Goal: "≤ 12 KB", Run: onNode(few)},
			{Name: alone(few), Run: onEcho(few)},
			{Name: node(many), Goal: "≤ 32 KB", Run: onNode(many)},
			{Name: alone(many), Run: onEcho(many)},
		},
		Ratios: []compare.Ratio{
			{Name: "Postbus / gRPC alone, 100 connections", Of: compare.Divide(node(few), alone(few), 0)},
			{Name: "Postbus / gRPC alone, 10,000 connections", Of: compare.Divide(node(many), alone(many), 0)},
		},
	}
	return e.Perform(ctx, b.Reps, b.Out)
}

// bytesPerStream opens the streams at target, which is the process server, and measures its
// memory before and after.
func bytesPerStream(ctx context.Context, target string, conns, server, postmaster int, resident func() (float64, error)) (s compare.Sample, err error) {
	before, err := resident()
	if err != nil {
		return s, err
	}
	m, err := rig.NewMeter(postmaster, server)
	if err != nil {
		return s, err
	}
	client, err := rig.StartPart(ctx, rig.OpenPatience, nil, "stream-client", target, strconv.Itoa(conns), strconv.Itoa(streamCount))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, client.End()) }()
	after, err := resident()
	if err != nil {
		return s, err
	}
	return m.Sample((after - before) / 1024 / streamCount)
}

// streamClient opens streams and holds them until its input ends. Its arguments are the
// target, the number of connections, and that of streams.
func streamClient(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("stream-client: %d arguments, must be 3", len(args))
	}
	conns, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("stream-client: connections: %w", err)
	}
	streams, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("stream-client: streams: %w", err)
	}
	open := make([]*grpc.ClientConn, conns)
	for i := range open {
		if open[i], err = rig.Dial(args[0]); err != nil {
			return err
		}
		defer open[i].Close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	held := make([]postbusv1.BusService_SubscribeClient, streams)
	var group errgroup.Group
	group.SetLimit(100) // handshakes at once
	for i := range held {
		group.Go(func() error {
			// ctx and not the group's, which would end the streams with it.
			stream, err := postbusv1.NewBusServiceClient(open[i%conns]).Subscribe(ctx,
				&postbusv1.SubscribeRequest{Channels: []string{fmt.Sprintf("idle-%d", i)}})
			if err != nil {
				return fmt.Errorf("stream %d: %w", i, err)
			}
			if _, err := stream.Recv(); err != nil {
				return fmt.Errorf("stream %d: %w", i, err)
			}
			held[i] = stream
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintln(out, "ready streams")
	return rig.Obey(in, rig.Free(out))
}
