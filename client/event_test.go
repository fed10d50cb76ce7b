package client

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

func TestGapComesInPlaceAndMovesTheCursor(t *testing.T) {
	s := &script{subscribe: func(stream subscribeStream, _ int, r *postbusv1.SubscribeRequest) error {
		ahead, trimmed := responseOf(50), responseOf(61, 61)
		ahead.Gap = &postbusv1.Gap{Reason: postbusv1.Gap_REASON_AHEAD, After: 50, Until: 50}
		trimmed.Gap = &postbusv1.Gap{Reason: postbusv1.Gap_REASON_TRIMMED, After: 51, Until: 60}
		return open(stream, ahead, responseOf(51, 51), trimmed)
	}}
	c := play(t, s, Options{})
	var got []string
	for event, err := range c.Subscribe(SubscribeOptions{Channels: []string{"a"}, After: new(int64(900))}).All(within(t, 30*time.Second)) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Gap != nil {
			got = append(got, fmt.Sprint(event.Gap.Reason, event.Gap.After, event.Gap.Until, event.Last))
			continue
		}
		got = append(got, fmt.Sprint(event.Notification.ID))
		if event.Notification.ID == 61 {
			break
		}
	}
	want := []string{"REASON_AHEAD 50 50 50", "51", "REASON_TRIMMED 51 60 60", "61"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPositionsTellOpeningAndHeartbeat(t *testing.T) {
	heartbeat := make(chan *durationpb.Duration, 1)
	s := &script{subscribe: func(stream subscribeStream, _ int, r *postbusv1.SubscribeRequest) error {
		heartbeat <- r.GetHeartbeat()
		return open(stream, responseOf(10), responseOf(15))
	}}
	c := play(t, s, Options{})
	var got []int64
	for event := range c.Subscribe(SubscribeOptions{Channels: []string{"a"}, Positions: true, Heartbeat: 2 * time.Second}).All(within(t, 30*time.Second)) {
		if event.Notification != nil || event.Gap != nil {
			t.Fatalf("got %+v", event)
		}
		if got = append(got, event.Last); len(got) == 2 {
			break
		}
	}
	if !slices.Equal(got, []int64{10, 15}) {
		t.Errorf("got %v", got)
	}
	if h := <-heartbeat; h.AsDuration() != 2*time.Second {
		t.Errorf("asked for a heartbeat of %v", h.AsDuration())
	}
}

func TestBinaryArrivesAsBinary(t *testing.T) {
	s := &script{subscribe: func(stream subscribeStream, _ int, _ *postbusv1.SubscribeRequest) error {
		r := responseOf(2, 1, 2)
		r.Notifications[0].Body = &postbusv1.Notification_Binary{Binary: []byte{}}
		r.Notifications[1].Body = &postbusv1.Notification_Binary{Binary: []byte{0, 255}}
		return open(stream, r)
	}}
	c := play(t, s, Options{})
	for event := range c.Subscribe(SubscribeOptions{Channels: []string{"a"}}).All(within(t, 30*time.Second)) {
		n := event.Notification
		if n.Binary == nil || n.Payload != nil || n.ID == 2 && !slices.Equal(n.Binary, []byte{0, 255}) {
			t.Errorf("got %+v", n)
		}
		if n.ID == 2 {
			break
		}
	}
}
