//go:build unix

package rig

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"

	"google.golang.org/grpc"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// ServePart serves bus with gRPC's defaults until the input ends.
func ServePart(bus postbusv1.BusServiceServer, in io.Reader, out io.Writer) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	postbusv1.RegisterBusServiceServer(server, bus)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "ready %s\n", listener.Addr())
	err = Obey(in, out)
	server.Stop()
	return errors.Join(err, <-served)
}

// Obey answers what a part is asked: "free" gives back unused memory.
func Obey(in io.Reader, out io.Writer) error {
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
