//go:build unix

// Package bare is what Postbus is compared with: servers that do the same on the wire, as
// fast as their libraries can, and nothing behind it.
package bare

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/bench/internal/rig"
)

// Channel is the channel of what the bare servers send.
const Channel = "fanout"

// The ways in which a bare server sends.
const (
	Strict = "strict" // to streams, from its loops
	Plain  = "plain"  // to streams, from a goroutine for each
	Parked = "parked" // to polls that wait
)

// Roles are the bare servers.
func Roles() []rig.Role {
	return []rig.Role{
		{Name: "echo-server", Play: playEcho},
		{Name: "bare-server", Play: playStreams},
		{Name: "bare-web-server", Play: playWeb},
	}
}

// StartEcho starts gRPC alone.
func StartEcho(ctx context.Context) (*rig.Part, error) { return startServer(ctx, "echo-server") }

// StartStreams starts the server of streams of gRPC. It is told the way, and how many messages.
func StartStreams(ctx context.Context) (*rig.Part, error) { return startServer(ctx, "bare-server") }

// StartWeb starts the server of HTTP. It is told the same.
func StartWeb(ctx context.Context) (*rig.Part, error) {
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
