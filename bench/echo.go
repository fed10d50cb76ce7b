//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// An echo is what gRPC alone costs: it decodes requests, answers as many results, and
// holds streams open, without doing anything about either.
type echo struct {
	postbusv1.UnimplementedBusServiceServer
	last atomic.Int64
}

// Send answers one made-up id for each message.
func (e *echo) Send(_ context.Context, request *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
	results := make([]*postbusv1.SendResult, len(request.GetMessages()))
	for i := range results {
		results[i] = &postbusv1.SendResult{Id: e.last.Add(1)}
	}
	return &postbusv1.SendResponse{Results: results}, nil
}

// Subscribe opens a stream that stays silent.
func (e *echo) Subscribe(_ *postbusv1.SubscribeRequest, stream postbusv1.BusService_SubscribeServer) error {
	if err := stream.Send(&postbusv1.SubscribeResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func echoServer(in io.Reader, out io.Writer) error { return servePart(&echo{}, in, out) }

// servePart serves bus with gRPC's defaults until the input ends.
func servePart(bus postbusv1.BusServiceServer, in io.Reader, out io.Writer) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	postbusv1.RegisterBusServiceServer(server, bus)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "ready %s\n", listener.Addr())
	err = obey(in, out)
	server.Stop()
	return errors.Join(err, <-served)
}

// obey answers what a part is asked: "free" gives back unused memory.
func obey(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if lines.Text() != "free" {
			return fmt.Errorf("%q: no such request", lines.Text())
		}
		for range 2 { // pools outlive one collection
			debug.FreeOSMemory()
		}
		fmt.Fprintln(out, "freed")
	}
	return lines.Err()
}

// startEcho starts the echo server as a process.
func startEcho(ctx context.Context) (*part, error) {
	return startPart(ctx, 30*time.Second, nil, "echo-server")
}
