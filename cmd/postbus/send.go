package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/postbus/postbus/client"
)

const (
	// maxInput is what a whole request may have; the server says what it really takes.
	maxInput = 4 << 20

	// sendTries keeps a command at a terminal to seconds when no server is there.
	sendTries = 6
)

// A sending is the command line of send.
type sending struct {
	server  remote
	message client.Message
	headers []string
	binary  string
}

func newSend() *cobra.Command {
	var s sending
	cmd := &cobra.Command{
		Use:   "send CHANNEL [PAYLOAD|-]",
		Short: "Send one message and print its id",
		Long: `Send one message to CHANNEL and print its id, once it is durable.

PAYLOAD is a JSON text, "-" reads it from standard input, and without it the payload
is null. A string needs its quotes: '"paid"'. One that begins with "-" goes behind
"--". With --key a message that was already sent stores nothing, and the first one's
id is printed. Without, a key is made up, so that trying again after a broken
connection stores the message once.`,
		Example: `  postbus send orders '{"order": 7}' --type paid
  postbus send orders '{"order": 7}' --key order-7-paid --ttl 1h --header source=shop
  date +'"%T"' | postbus send clock -
  postbus send pictures --binary cat.png --type png`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.read(cmd, args); err != nil {
				return err
			}
			return s.send(cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.message.Type, "type", "", "what kind of message it is")
	f.StringVar(&s.message.Key, "key", "", "idempotency key")
	f.DurationVar(&s.message.TTL, "ttl", 0, "how long it may be delivered (default the server's retention)")
	f.StringArrayVar(&s.headers, "header", nil, "a header as NAME=VALUE; may be repeated")
	f.StringVar(&s.binary, "binary", "", "send the bytes of this file instead of a PAYLOAD; - is standard input")
	s.server.register(cmd)
	return cmd
}

// read makes the message of the command line.
func (s *sending) read(cmd *cobra.Command, args []string) error {
	m := &s.message
	m.Channel = args[0]
	if cmd.Flags().Changed("ttl") && m.TTL <= 0 {
		return misuse("--ttl: %v, must be above 0s", m.TTL)
	}
	for _, header := range s.headers {
		name, value, found := strings.Cut(header, "=")
		if !found || name == "" {
			return misuse("--header: %q is not NAME=VALUE", header)
		}
		if _, twice := m.Headers[name]; twice {
			return misuse("--header: %q is given twice", name)
		}
		if m.Headers == nil {
			m.Headers = make(map[string]string)
		}
		m.Headers[name] = value
	}
	if cmd.Flags().Changed("binary") {
		if len(args) == 2 {
			return misuse("PAYLOAD and --binary are both given, at most one of them")
		}
		var err error
		m.Binary, err = readBinary(s.binary, cmd.InOrStdin())
		return err
	}
	if len(args) == 1 {
		return nil
	}
	m.Payload = json.RawMessage(args[1])
	if args[1] == "-" {
		var err error
		if m.Payload, err = readMost(cmd.InOrStdin(), "standard input"); err != nil {
			return err
		}
	}
	return checkJSON(m.Payload)
}

// checkJSON refuses what is no JSON text, with a hint at the usual reason.
func checkJSON(payload []byte) error {
	if !utf8.Valid(payload) {
		return misuse("PAYLOAD: not UTF-8")
	}
	var value json.RawMessage
	if err := json.Unmarshal(payload, &value); err != nil {
		text := string(payload)
		if len(text) > 40 {
			text = strings.ToValidUTF8(text[:40], "") + "…"
		}
		return misuse("PAYLOAD: %q is not JSON: %v (a string needs quotes: '\"…\"')", text, err)
	}
	return nil
}

// readBinary reads the file name, or standard input if that is "-". The bytes are
// not nil.
func readBinary(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return readMost(stdin, "standard input")
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--binary: %w", err)
	}
	defer file.Close()
	return readMost(file, "--binary "+name)
}

// readMost reads r to its end, if that comes within maxInput.
func readMost(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxInput {
		return nil, misuse("%s: more than %d bytes", name, maxInput)
	}
	return b, nil
}

// send sends the message and prints its id.
func (s *sending) send(cmd *cobra.Command) error {
	c, err := s.server.dial(cmd, client.Options{SendTries: sendTries, SendTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	given := s.message.Key != ""
	if !given {
		s.message.Key = client.NewKey()
	}
	receipts, err := c.Send(cmd.Context(), s.message)
	if errors.Is(err, client.ErrUnknownOutcome) {
		return fmt.Errorf("%s; %w: repeat it with --key %q", describe(err), client.ErrUnknownOutcome, s.message.Key)
	}
	if err != nil {
		return err
	}
	if receipts[0].Duplicate && given {
		fmt.Fprintln(cmd.ErrOrStderr(), "postbus: duplicate: a message with this key was already there")
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), receipts[0].ID)
	return err
}
