//go:build unix

package sink

import (
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

func TestSinkSaysWhyAStreamEnded(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer() // without the service
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	plan := Plan{Target: listener.Addr().String(), Conns: 2, Readers: 4, Channel: "a"}
	if _, err := Open(t.Context(), plan, nil, func() {}); err == nil || !strings.Contains(err.Error(), "unknown service postbus.v1.BusService") {
		t.Errorf("a sink at a server without the service: %v", err)
	}
}
