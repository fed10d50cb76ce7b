package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// PollOptions say what to poll for.
type PollOptions struct {
	// Channels are the addresses to read: 1 to 1,000. Required.
	Channels []string

	// After is the cursor: the answer is what comes after this id. Pass Page.Last of
	// the answer before. 0: from the oldest retained. Nil: from now on.
	After *int64

	// Timeout is how long to wait when nothing is there, at most 50 s; 0s: not at
	// all. Nil: the server's default, 25 s.
	Timeout *time.Duration

	// Max is the most notifications to answer, 1 to 1,000. 0: the server's default, 100.
	Max int
}

// A Page is what a poll answers.
type Page struct {
	// Notifications is what is there, ids ascending. Empty when nothing came in time.
	Notifications []*Notification

	// Last is the After of the next poll; always adopt it.
	Last int64

	// Gap is what is lost, before Notifications; nil: nothing.
	Gap *Gap
}

// pollMargin is how much longer than its timeout a poll may take. With it the
// longest poll has a deadline of 60 s, which proxies allow by default.
const (
	pollMargin = 10 * time.Second
	pollMost   = 50 * time.Second
)

// Poll answers what is there after the cursor, and otherwise waits for the first
// notification. Finding nothing is no error. It tries once: a poll that failed
// changed nothing and may be repeated with the same After.
func (c *Client) Poll(ctx context.Context, o PollOptions) (*Page, error) {
	request := &postbusv1.PollRequest{Channels: o.Channels, After: o.After}
	most := pollMost
	if o.Timeout != nil {
		request.Timeout = durationpb.New(*o.Timeout)
		most = min(*o.Timeout, pollMost)
	}
	if o.Max != 0 {
		request.Max = new(int32(min(max(o.Max, -1), 1<<20))) // the server names the limit
	}
	ctx, cancel := context.WithTimeout(ctx, most+pollMargin)
	defer cancel()
	response, err := c.bus.Poll(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("poll %d channels: %w", len(o.Channels), err)
	}
	page := &Page{Last: response.GetLast(), Gap: gapOf(response.GetGap())}
	for _, p := range response.GetNotifications() {
		page.Notifications = append(page.Notifications, notificationOf(p))
	}
	return page, nil
}
