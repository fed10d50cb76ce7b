package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

func responseOf(last int64, ids ...int64) *postbusv1.SubscribeResponse {
	r := &postbusv1.SubscribeResponse{Last: last}
	for _, id := range ids {
		r.Notifications = append(r.Notifications, &postbusv1.Notification{
			Id: id, Channel: "a", Body: &postbusv1.Notification_Json{Json: fmt.Sprint(id)},
		})
	}
	return r
}

// open sends the responses and stays open until the client ends the stream.
func open(stream subscribeStream, responses ...*postbusv1.SubscribeResponse) error {
	for _, r := range responses {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

// TestSubscriptionResumesWithoutLossOrRepetition reads 400 notifications from a
// server that breaks connections, ends streams and repeats what it gave.
func TestSubscriptionResumesWithoutLossOrRepetition(t *testing.T) {
	const first, newest = 11, 410
	s := &script{}
	s.subscribe = func(stream subscribeStream, try int, r *postbusv1.SubscribeRequest) error {
		from := r.GetAfter()
		if r.After == nil {
			from = first - 1
		}
		// Repeats a few of what the reader has: it may not show.
		next := max(first, from+1-rand.Int64N(4))
		if err := stream.Send(responseOf(from)); err != nil {
			return err
		}
		for n := 0; next <= newest; n++ {
			if n == 5 {
				switch try % 3 {
				case 0:
					s.cut()
					return nil
				case 1:
					return told(t, codes.Unavailable, 0)
				case 2:
					return nil
				}
			}
			var ids []int64
			for size := 1 + rand.IntN(12); size > 0 && next <= newest; size-- {
				ids = append(ids, next)
				next++
			}
			if err := stream.Send(responseOf(ids[len(ids)-1], ids...)); err != nil {
				return err
			}
		}
		return open(stream)
	}
	c := play(t, s, Options{})
	var got []int64
	breaks := 0
	subscription := c.Subscribe(SubscribeOptions{Channels: []string{"a"}, OnBreak: func(error, time.Duration) { breaks++ }})
	for event, err := range subscription.All(within(t, time.Minute)) {
		if err != nil {
			t.Fatal(err)
		}
		if n := event.Notification; event.Last != n.ID || string(n.Payload) != fmt.Sprint(n.ID) || n.Binary != nil {
			t.Fatalf("got %+v with last %d", n, event.Last)
		}
		got = append(got, event.Notification.ID)
		if event.Notification.ID == newest {
			break
		}
	}
	var want []int64
	for id := int64(first); id <= newest; id++ {
		want = append(want, id)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if breaks == 0 || s.seen() != breaks+1 {
		t.Errorf("%d breaks, %d streams", breaks, s.seen())
	}
}

func TestFromNowIsTheFirstResponse(t *testing.T) {
	asked := make(chan *int64, 2)
	s := &script{subscribe: func(stream subscribeStream, try int, r *postbusv1.SubscribeRequest) error {
		asked <- r.After
		if try == 1 {
			return stream.Send(responseOf(10)) // and ends
		}
		return open(stream, responseOf(11, 11))
	}}
	c := play(t, s, Options{})
	subscription := c.Subscribe(SubscribeOptions{Channels: []string{"a"}})
	if last, known := subscription.Last(); known {
		t.Errorf("a cursor %d before anything was read", last)
	}
	for event, err := range subscription.All(within(t, 30*time.Second)) {
		if err != nil || event.Notification.ID != 11 {
			t.Fatalf("got %+v, %v", event, err)
		}
		break
	}
	if a := <-asked; a != nil {
		t.Errorf("the first stream asked after %d", *a)
	}
	if a := <-asked; a == nil || *a != 10 {
		t.Errorf("the second stream asked after %v, want 10", a)
	}
}

func TestSilentStreamIsReplaced(t *testing.T) {
	s := &script{subscribe: func(stream subscribeStream, try int, _ *postbusv1.SubscribeRequest) error {
		if try == 1 {
			return open(stream, responseOf(10)) // then nothing, not even a heartbeat
		}
		return open(stream, responseOf(11, 11))
	}}
	c := play(t, s, Options{})
	var why error
	subscription := c.Subscribe(SubscribeOptions{Channels: []string{"a"}, OnBreak: func(err error, _ time.Duration) { why = err }})
	if want := 2*20*time.Second + silenceMargin; subscription.silence != want {
		t.Errorf("a stream may be silent for %v, want %v", subscription.silence, want)
	}
	subscription.silence = 300 * time.Millisecond
	for event, err := range subscription.All(within(t, 30*time.Second)) {
		if err != nil || event.Notification.ID != 11 {
			t.Fatalf("got %+v, %v", event, err)
		}
		break
	}
	if why == nil || why.Error() != "no response for 300ms" {
		t.Errorf("broke off for %v", why)
	}
}

func TestSlowReaderIsNotTakenForSilence(t *testing.T) {
	worked := make(chan struct{})
	s := &script{subscribe: func(stream subscribeStream, _ int, _ *postbusv1.SubscribeRequest) error {
		if err := stream.Send(responseOf(1, 1)); err != nil {
			return err
		}
		select {
		case <-worked:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		return open(stream, responseOf(2, 2))
	}}
	c := play(t, s, Options{})
	subscription := c.Subscribe(SubscribeOptions{Channels: []string{"a"}})
	subscription.silence = 2 * time.Second
	for event := range subscription.All(within(t, 30*time.Second)) {
		if event.Notification.ID == 2 {
			break
		}
		<-time.After(3 * time.Second) // the reader's work
		close(worked)
	}
	if s.seen() != 1 {
		t.Errorf("%d streams, want one", s.seen())
	}
}

func TestIncurableErrorEndsTheSubscription(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated} {
		s := &script{subscribe: func(subscribeStream, int, *postbusv1.SubscribeRequest) error { return told(t, code, 0) }}
		c := play(t, s, Options{})
		var end error
		for _, err := range c.Subscribe(SubscribeOptions{Channels: []string{"a"}}).All(within(t, 30*time.Second)) {
			if end != nil {
				t.Errorf("went on after %v", end)
			}
			end = err
		}
		if status.Code(end) != code || s.seen() != 1 {
			t.Errorf("%v: got %v after %d streams", code, end, s.seen())
		}
	}
}

func TestLoopThatBreaksOffGoesOnBehindItsLastEvent(t *testing.T) {
	s := &script{subscribe: func(stream subscribeStream, _ int, r *postbusv1.SubscribeRequest) error {
		var ids []int64
		for id := r.GetAfter() + 1; id <= 9; id++ {
			ids = append(ids, id)
		}
		return open(stream, responseOf(9, ids...)) // all in one response
	}}
	c := play(t, s, Options{})
	subscription := c.Subscribe(SubscribeOptions{Channels: []string{"a"}, After: new(int64(0))})
	var got []int64
	for range 3 {
		taken := 0
		for event, err := range subscription.All(within(t, 30*time.Second)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, event.Notification.ID)
			if taken++; taken == 3 {
				break
			}
		}
		if last, known := subscription.Last(); !known || last != got[len(got)-1] {
			t.Errorf("cursor %d, last taken %d", last, got[len(got)-1])
		}
	}
	if want := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSubscriptionEndsWithItsContext(t *testing.T) {
	s := &script{subscribe: func(stream subscribeStream, _ int, _ *postbusv1.SubscribeRequest) error {
		return open(stream, responseOf(3, 1, 2, 3))
	}}
	c := play(t, s, Options{})
	ctx, cancel := context.WithCancel(within(t, 30*time.Second))
	defer cancel()
	var got []int64
	subscription := c.Subscribe(SubscribeOptions{Channels: []string{"a"}, After: new(int64(0))})
	for event, err := range subscription.All(ctx) {
		if err != nil {
			t.Fatalf("stopping as asked is no error: %v", err)
		}
		got = append(got, event.Notification.ID)
		cancel()
	}
	if last, _ := subscription.Last(); !slices.Equal(got, []int64{1}) || last != 1 {
		t.Errorf("took %v, cursor %d; what was not taken must come again", got, last)
	}
}

func TestCloseEndsSubscriptionsWithAnError(t *testing.T) {
	s := &script{subscribe: func(stream subscribeStream, _ int, _ *postbusv1.SubscribeRequest) error {
		return open(stream, responseOf(1, 1))
	}}
	c := play(t, s, Options{})
	var closing sync.WaitGroup
	var end error
	for event, err := range c.Subscribe(SubscribeOptions{Channels: []string{"a"}}).All(within(t, 30*time.Second)) {
		if end = err; event.Notification != nil {
			closing.Go(func() { _ = c.Close() })
		}
	}
	closing.Wait()
	if end == nil {
		t.Error("ended without an error")
	}
}
