package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postbus/postbus/client"
)

func newTail() *cobra.Command {
	var server remote
	var after int64
	cmd := &cobra.Command{
		Use:   "tail CHANNEL…",
		Short: "Print what is sent to channels, one JSON object a line",
		Long: `Print the notifications of the channels as they are committed, one JSON object a
line: id, channel, type, payload (or binary, as base64), headers and sent_at. What
retention, a restore or a failover took is told as {"gap":{…}}.

It begins now, or behind the id --after names (0: with the oldest retained), and goes
on behind the last line when a connection broke, which it says on standard error. It
ends on SIGINT and SIGTERM.`,
		Example: `  postbus tail orders
  postbus tail orders invoices --after 42
  postbus tail orders --after 0 | jq .payload`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, channels []string) error {
			o := client.SubscribeOptions{Channels: channels}
			if cmd.Flags().Changed("after") {
				if after < 0 {
					return misuse("--after: %d, must be 0 or more", after)
				}
				o.After = &after
			}
			c, err := server.dial(cmd, client.Options{})
			if err != nil {
				return err
			}
			defer c.Close()
			return tail(cmd, c, o)
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "the id to begin behind (default now; 0: the oldest retained)")
	server.register(cmd)
	return cmd
}

// tail prints what comes until the command's context ends or nobody reads it any more.
func tail(cmd *cobra.Command, c *client.Client, o client.SubscribeOptions) error {
	// A broken pipe is then an error of Write, and no end by a signal.
	signal.Ignore(syscall.SIGPIPE)
	broken := false
	o.OnBreak = func(err error, wait time.Duration) {
		broken = true
		fmt.Fprintf(cmd.ErrOrStderr(), "postbus: %s; reconnecting in %v\n", describe(err), wait.Round(100*time.Millisecond))
	}
	o.Positions = true // so that a reconnection shows at once
	for event, err := range c.Subscribe(o).All(cmd.Context()) {
		if err != nil {
			return err
		}
		if broken {
			broken = false
			fmt.Fprintf(cmd.ErrOrStderr(), "postbus: reconnected\n")
		}
		line, err := lineOf(event)
		if err != nil {
			return fmt.Errorf("notification %d: %w", event.Last, err)
		}
		if _, err := cmd.OutOrStdout().Write(line); err != nil {
			if errors.Is(err, syscall.EPIPE) {
				return nil
			}
			return err
		}
	}
	return nil
}

// A notificationLine is the JSON form of a notification; one of Payload and Binary
// is there.
type notificationLine struct {
	ID      int64             `json:"id"`
	Channel string            `json:"channel"`
	Type    string            `json:"type"`
	Payload json.RawMessage   `json:"payload,omitempty"`
	Binary  *[]byte           `json:"binary,omitempty"`
	Headers map[string]string `json:"headers"`
	SentAt  time.Time         `json:"sent_at"`
}

// A gapLine is the JSON form of a gap.
type gapLine struct {
	Gap struct {
		Reason string `json:"reason"`
		After  int64  `json:"after"`
		Until  int64  `json:"until"`
	} `json:"gap"`
}

// lineOf returns event as a line of JSON; empty for a mere position. The payload's
// tokens are as sent.
func lineOf(event client.Event) ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // it would rewrite the payload's strings
	if gap := event.Gap; gap != nil {
		var l gapLine
		l.Gap.Reason, l.Gap.After, l.Gap.Until = gap.Reason.String(), gap.After, gap.Until
		err := encoder.Encode(l)
		return line.Bytes(), err
	}
	n := event.Notification
	if n == nil {
		return nil, nil
	}
	l := notificationLine{ID: n.ID, Channel: n.Channel, Type: n.Type, Payload: n.Payload, Headers: n.Headers, SentAt: n.SentAt}
	if n.Binary != nil {
		l.Binary = &n.Binary
	}
	if l.Headers == nil {
		l.Headers = map[string]string{}
	}
	err := encoder.Encode(l)
	return line.Bytes(), err
}
