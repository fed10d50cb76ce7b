// Package client sends to a Postbus server and reads from it, and goes on by itself
// where a connection broke: a send with keys is repeated until it is known to be
// stored once, and a subscription resumes behind the last notification that it
// handed out.
//
//	c, err := client.Dial(client.Options{Target: "127.0.0.1:8073"})
//	…
//	receipts, err := c.Send(ctx, client.Message{
//		Channel: "orders", Payload: json.RawMessage(`{"order": 7}`), Key: client.NewKey(),
//	})
//	…
//	for event, err := range c.Subscribe(client.SubscribeOptions{Channels: []string{"orders"}}).All(ctx) {
//		…
//	}
//
// A Client and everything that it does is one gRPC channel; use it from any number
// of goroutines.
package client

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// Options say how to reach a server. The zero value of every field but Target is
// its documented default.
type Options struct {
	// Target is the server's gRPC address, "127.0.0.1:8073" or any other gRPC target
	// ("dns:///postbus.internal:8073"). When it names several addresses, calls go to
	// them in turn. Required.
	Target string

	// Credentials secure the connection. Nil: none, plain text.
	Credentials credentials.TransportCredentials

	// SendTries is how often a Send is tried at most, 1 to 100. 0: 10.
	SendTries int

	// SendTimeout bounds one try of a Send, within the context's own deadline. 0: 10 s.
	SendTimeout time.Duration
}

const (
	// maxReceive fits the largest response: about 1 MiB, or one body of at most 4 MiB
	// with its headers, and room for servers that are configured to more.
	maxReceive = 8 << 20

	// serviceConfig spreads calls over all addresses of a target. It has no retry
	// policy on purpose: gRPC would repeat a Send that has no key.
	serviceConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`

	maxSendTries = 100
)

// A Client talks to one server, or to several behind one target.
type Client struct {
	options Options
	conn    *grpc.ClientConn
	bus     postbusv1.BusServiceClient
}

// Dial returns a Client for o.Target. It does not wait for a connection: that is
// made when it is needed, and again whenever it breaks. Close ends it.
func Dial(o Options) (*Client, error) {
	if o.Target == "" {
		return nil, fmt.Errorf("target: empty, an address such as 127.0.0.1:8073 is required")
	}
	if o.SendTries < 0 || o.SendTries > maxSendTries {
		return nil, fmt.Errorf("send tries: %d, 1 to %d", o.SendTries, maxSendTries)
	}
	if o.SendTimeout < 0 {
		return nil, fmt.Errorf("send timeout: %v, above 0s", o.SendTimeout)
	}
	if o.SendTries == 0 {
		o.SendTries = 10
	}
	if o.SendTimeout == 0 {
		o.SendTimeout = 10 * time.Second
	}
	if o.Credentials == nil {
		o.Credentials = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(o.Target,
		grpc.WithTransportCredentials(o.Credentials),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// A retry policy from DNS would repeat a Send that has no key.
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		// gRPC's own maximum of 2 min would outlast every back-off of ours.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
	)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", o.Target, err)
	}
	return &Client{options: o, conn: conn, bus: postbusv1.NewBusServiceClient(conn)}, nil
}

// Close ends the connection and everything that goes on over it.
func (c *Client) Close() error { return c.conn.Close() }

// closed reports whether Close was called: no try can succeed any more.
func (c *Client) closed() bool { return c.conn.GetState() == connectivity.Shutdown }
