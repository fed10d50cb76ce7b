// Command go is the example of package client: it sends and reads, and goes on where
// a connection broke.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/postbus/postbus/client"
)

func main() {
	server := flag.String("server", cmp.Or(os.Getenv("POSTBUS_SERVER"), "127.0.0.1:8073"), "the server's gRPC address")
	channel := flag.String("channel", "example", "the channel to send to and to read")
	count := flag.Int("count", 3, "send this many, and end after this many")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *server, *channel, *count); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, server, channel string, count int) error {
	c, err := client.Dial(client.Options{Target: server})
	if err != nil {
		return err
	}
	defer c.Close()
	sent, received := false, 0
	subscription := c.Subscribe(client.SubscribeOptions{
		Channels: []string{channel}, Positions: true,
		OnBreak: func(err error, wait time.Duration) { log.Printf("reconnecting in %v: %v", wait, err) },
	})
	for event, err := range subscription.All(ctx) {
		if err != nil {
			return err
		}
		if !sent { // the first event: from here on nothing is missed
			sent = true
			for n := range count {
				payload := json.RawMessage(fmt.Sprintf(`{"number": %d}`, n))
				if _, err := c.Send(ctx, client.Message{Channel: channel, Type: "example", Payload: payload, Key: client.NewKey()}); err != nil {
					return err
				}
			}
		}
		switch n := event.Notification; {
		case event.Gap != nil:
			fmt.Println("lost:", event.Gap.After, event.Gap.Until)
		case n != nil:
			fmt.Println(n.ID, n.Channel, n.Type, string(n.Payload)+string(n.Binary))
			if received++; received >= count {
				return nil
			}
		}
	}
	return ctx.Err()
}
