//go:build unix

package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"

	"google.golang.org/grpc"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A Role is what this program can be as a process of its own. It says "ready", and where,
// and ends when its input does.
type Role struct {
	Name string
	Play func(ctx context.Context, args []string, in io.Reader, out io.Writer) error
}

// ServeBus serves bus with gRPC's defaults until the input ends.
func ServeBus(bus postbusv1.BusServiceServer, in io.Reader, out io.Writer) error {
	server := grpc.NewServer()
	postbusv1.RegisterBusServiceServer(server, bus)
	return ServeGRPC(server, in, out, Free(out))
}

// ServeGRPC serves until the input ends, each line of which is for obey.
func ServeGRPC(server *grpc.Server, in io.Reader, out io.Writer, obey func(line string) error) error {
	stop := func() error {
		server.Stop()
		return nil
	}
	return serve(server.Serve, stop, in, out, obey)
}

// ServeHTTP serves until the input ends, each line of which is for obey.
func ServeHTTP(server *http.Server, in io.Reader, out io.Writer, obey func(line string) error) error {
	return serve(server.Serve, server.Close, in, out, obey)
}

func serve(on func(net.Listener) error, stop func() error, in io.Reader, out io.Writer, obey func(line string) error) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- on(listener) }()
	fmt.Fprintf(out, "ready %s\n", listener.Addr())
	err = errors.Join(Obey(in, obey), stop())
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Obey gives each line of in to do, until there are no more.
func Obey(in io.Reader, do func(line string) error) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if err := do(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Free obeys "free": it gives back unused memory and says so.
func Free(out io.Writer) func(line string) error {
	return func(line string) error {
		if line != "free" {
			return fmt.Errorf("%q: no such request", line)
		}
		for range 2 { // pools outlive one collection
			debug.FreeOSMemory()
		}
		fmt.Fprintln(out, "freed")
		return nil
	}
}
