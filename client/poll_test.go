package client

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

func TestPollPassesWhatIsAsked(t *testing.T) {
	asked := make(chan *postbusv1.PollRequest, 1)
	deadlines := make(chan time.Duration, 1)
	s := &script{poll: func(ctx context.Context, r *postbusv1.PollRequest) (*postbusv1.PollResponse, error) {
		asked <- r
		until, _ := ctx.Deadline()
		deadlines <- time.Until(until)
		stream := responseOf(12, 11)
		return &postbusv1.PollResponse{Notifications: stream.GetNotifications(), Last: 12,
			Gap: &postbusv1.Gap{Reason: 77, After: 1, Until: 10}}, nil
	}}
	c := play(t, s, Options{})
	page, err := c.Poll(within(t, 5*time.Minute), PollOptions{
		Channels: []string{"a", "b"}, After: new(int64(1)), Timeout: new(time.Duration(0)), Max: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := <-asked; !slices.Equal(r.GetChannels(), []string{"a", "b"}) || r.GetAfter() != 1 || r.Timeout == nil ||
		r.GetTimeout().AsDuration() != 0 || r.GetMax() != 5 {
		t.Errorf("asked %v", r)
	}
	if d := <-deadlines; d > pollMargin {
		t.Errorf("a poll that answers at once has %v", d)
	}
	if page.Last != 12 || len(page.Notifications) != 1 || page.Notifications[0].ID != 11 || *page.Gap != (Gap{77, 1, 10}) {
		t.Errorf("got %+v", page)
	}
	if page.Gap.Reason.String() != "77" {
		t.Errorf("an unknown reason reads %q", page.Gap.Reason)
	}
	if _, err := c.Poll(within(t, 5*time.Minute), PollOptions{Channels: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if r := <-asked; r.After != nil || r.Timeout != nil || r.Max != nil {
		t.Errorf("asked %v, want the server's defaults", r)
	}
	if d := <-deadlines; d < pollMost {
		t.Errorf("a default poll has %v", d)
	}
	if !json.Valid(page.Notifications[0].Payload) {
		t.Errorf("payload %q", page.Notifications[0].Payload)
	}
}
