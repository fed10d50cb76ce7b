package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// ErrUnknownOutcome is wrapped by the error of a Send of which it is not known
// whether it was stored. Repeat it with the same keys; without keys, only if
// storing it twice does no harm. A failed Send whose error does not wrap it stored
// nothing.
var ErrUnknownOutcome = errors.New("it is not known whether the messages were stored")

// NewKey returns a fresh idempotency key, 26 characters of 128 random bits. Make it
// once for a message, not once for a try.
func NewKey() string { return rand.Text() }

// Send stores messages, all or none, and returns after their commit, with one
// receipt for each in their order. At most 1,000 messages, 4 MiB in all.
//
// A try that certainly stored nothing (the server is draining, overloaded or
// without its database, and says so) is repeated
// (TestSendRetriesWhatCertainlyStoredNothing). One of which nobody knows (a broken
// connection, a deadline) is repeated only when every message has a key, so that
// nothing is stored twice (TestSendWithKeysRetriesUnknownOutcomes,
// TestSendWithoutKeyNeverRetriesUnknownOutcomes). Both within ctx and
// Options.SendTries, after a jittered wait and after what the server asked for.
//
// The error has the status of the last try (status.FromError) and wraps
// ErrUnknownOutcome if any try may have stored the messages.
func (c *Client) Send(ctx context.Context, messages ...Message) ([]Receipt, error) {
	request := &postbusv1.SendRequest{Messages: make([]*postbusv1.Message, len(messages))}
	keyed := true
	for i := range messages {
		p, err := messages[i].proto(i)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		request.Messages[i] = p
		keyed = keyed && p.GetKey() != ""
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("send %d messages: %w", len(messages), err)
	}
	wait := delay{first: 200 * time.Millisecond, most: 5 * time.Second}
	unknown := false
	for try := 1; ; try++ {
		receipts, err := c.sendOnce(ctx, request)
		if err == nil {
			return receipts, nil
		}
		outcome := outcomeOf(err)
		unknown = unknown || outcome == outcomeUnknown
		again := outcome == outcomeNotStored || outcome == outcomeUnknown && keyed
		if !again || try == c.options.SendTries || ctx.Err() != nil || c.closed() || !pause(ctx, wait.after(err)) {
			err = fmt.Errorf("send %d messages, try %d: %w", len(messages), try, err)
			if unknown {
				err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
			}
			return nil, err
		}
	}
}

func (c *Client) sendOnce(ctx context.Context, request *postbusv1.SendRequest) ([]Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.SendTimeout)
	defer cancel()
	response, err := c.bus.Send(ctx, request)
	if err != nil {
		return nil, err
	}
	if got, want := len(response.GetResults()), len(request.GetMessages()); got != want {
		return nil, status.Errorf(codes.Unknown, "%d results for %d messages", got, want)
	}
	receipts := make([]Receipt, len(response.GetResults()))
	for i, result := range response.GetResults() {
		receipts[i] = Receipt{ID: result.GetId(), Duplicate: result.GetDuplicate()}
	}
	return receipts, nil
}

// An outcome is what the error of one try says about the messages.
type outcome int

const (
	outcomeUnknown   outcome = iota // stored or not
	outcomeNotStored                // certainly not, and a later try may do it
	outcomeRefused                  // certainly not, and no later try will
)

func outcomeOf(err error) outcome {
	switch code := status.Code(err); {
	case (code == codes.Unavailable || code == codes.ResourceExhausted) && fromServer(err):
		return outcomeNotStored
	case code == codes.ResourceExhausted, !curable(err):
		// Without ErrorInfo RESOURCE_EXHAUSTED is gRPC's own word for "too large".
		return outcomeRefused
	}
	return outcomeUnknown
}
