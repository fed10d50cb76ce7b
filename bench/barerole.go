//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/bench/internal/rig"
)

// fanoutChannel is the channel of what the bare servers send.
const fanoutChannel = "fanout"

// The ways in which a bare server sends.
const (
	wayStrict = "strict" // to streams, from its loops
	wayPlain  = "plain"  // to streams, from a goroutine for each
	wayParked = "parked" // to polls that wait
)

// bareRoles are the bare servers.
func bareRoles() []rig.Role {
	return []rig.Role{
		{Name: "echo-server", Play: echoServer},
		{Name: "bare-server", Play: bareServer},
		{Name: "bare-web-server", Play: bareWebServer},
	}
}

// startEcho starts gRPC alone.
func startEcho(ctx context.Context) (*rig.Part, error) { return startServer(ctx, "echo-server") }

// startBare starts the server of streams of gRPC. It is told the way, and how many messages.
func startBare(ctx context.Context) (*rig.Part, error) { return startServer(ctx, "bare-server") }

// startBareWeb starts the server of HTTP. It is told the same.
func startBareWeb(ctx context.Context) (*rig.Part, error) {
	return startServer(ctx, "bare-web-server")
}

func startServer(ctx context.Context, role string) (*rig.Part, error) {
	return rig.StartPart(ctx, 30*time.Second, nil, role)
}

// parseOrder reads what a bare server is told: the way, and how many messages.
func parseOrder(line string) (way string, count int, err error) {
	if _, err = fmt.Sscan(line, &way, &count); err != nil {
		err = fmt.Errorf("%q: %w", line, err)
	}
	return way, count, err
}
