package tests

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func pollOf(channels ...string) *postbusv1.PollRequest {
	return &postbusv1.PollRequest{Channels: channels, Timeout: durationpb.New(longest)}
}

func pollNow(channels ...string) *postbusv1.PollRequest {
	return &postbusv1.PollRequest{Channels: channels, Timeout: durationpb.New(0)}
}

func subscribeOf(channels ...string) *postbusv1.SubscribeRequest {
	return &postbusv1.SubscribeRequest{Channels: channels}
}

func TestSendsAboveTheQueueAreTold(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--send-queue-messages", "1000", "--send-queue-bytes", fmt.Sprint(4<<20))
	inside := subscribed(t, s.bus, "inside")
	many := make([]*postbusv1.Message, 1000)
	for i := range many {
		many[i] = message("a", "1")
	}
	locked := sql(t, url)
	// No message can be stored; reading goes on.
	do(t, locked, "BEGIN", "LOCK TABLE postbus.bus IN SHARE ROW EXCLUSIVE MODE")
	accepted := make(chan error, 1)
	go func() { _, err := s.bus.Send(short(t), sendRequest(many...)); accepted <- err }()
	s.awaitMetric(t, "postbus_send_queue_messages", 1000)
	_, err := s.bus.Send(short(t), sendRequest(message("a", "refused")))
	exhausted(t, err, "SEND_QUEUE_FULL")
	resp, answer := s.asked(t, "POST", "/v1/send", `{"messages":[{"channel":"a"}]}`)
	told429(t, resp, answer, "SEND_QUEUE_FULL")
	if got := s.faults(t, "SEND_QUEUE_FULL"); got != 2 {
		t.Errorf("%d refusals are counted, want 2", got)
	}
	if _, err := s.bus.Poll(short(t), pollNow("a")); err != nil {
		t.Errorf("a poll meanwhile: %v", err)
	}
	do(t, locked, "ROLLBACK")
	must(t, <-accepted)
	undisturbed(t, url, "inside", inside)
	send(t, s.bus, message("a", "there is room again"))

	do(t, locked, "BEGIN", "LOCK TABLE postbus.bus IN SHARE ROW EXCLUSIVE MODE")
	large := message("a", strings.Repeat("x", 1<<20-2))
	go func() { _, err := s.bus.Send(short(t), sendRequest(large, large, large)); accepted <- err }()
	s.awaitMetric(t, "postbus_send_queue_messages", 3)
	_, err = s.bus.Send(short(t), sendRequest(large))
	exhausted(t, err, "SEND_QUEUE_FULL")
	send := s.faults(t, "SEND_QUEUE_FULL")
	do(t, locked, "ROLLBACK")
	must(t, <-accepted)
	if send != 3 {
		t.Errorf("%d refusals are counted, want 3", send)
	}
	if stored := ask[int](t, locked, "SELECT count(*) FROM postbus.bus WHERE channel = 'a'"); stored != 1004 {
		t.Errorf("%d are stored, want 1004: what is refused is not", stored)
	}
	s.quiet(t)
}

func TestReadsAboveTheQueueAreTold(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--page-readers", "1", "--page-queue", "1", "--window-bytes", fmt.Sprint(1<<20))
	large := message("old", strings.Repeat("x", 1<<19))
	send(t, s.bus, message("old", `"oldest"`))
	send(t, s.bus, large, large, large, large) // the oldest is in the table alone
	inside := subscribed(t, s.bus, "inside")
	old := pollNow("old")
	old.After = new(int64)
	locked := sql(t, url)
	do(t, locked, "BEGIN", "LOCK TABLE postbus.bus IN ACCESS EXCLUSIVE MODE") // no reading
	waiting := make(chan error, 2)
	read := func() { _, err := s.bus.Poll(short(t), old); waiting <- err }
	go read()
	go read()
	s.awaitMetric(t, "postbus_pages_waiting", 1)
	_, err := s.bus.Poll(short(t), old)
	exhausted(t, err, "TOO_MANY_READS")
	resp, answer := s.asked(t, "GET", "/v1/poll?channels=old&after=0&timeout=0s", "")
	told429(t, resp, answer, "TOO_MANY_READS")
	stream, err := s.bus.Subscribe(short(t), &postbusv1.SubscribeRequest{Channels: []string{"old"}, After: new(int64)})
	must(t, err)
	_, err = stream.Recv()
	exhausted(t, err, "TOO_MANY_READS")
	if got := s.faults(t, "TOO_MANY_READS"); got != 3 {
		t.Errorf("%d refusals are counted, want 3", got)
	}
	if _, err := s.bus.Poll(short(t), pollNow("inside")); err != nil {
		t.Errorf("a poll that needs no read: %v", err)
	}
	do(t, locked, "ROLLBACK")
	must(t, <-waiting)
	must(t, <-waiting)
	undisturbed(t, url, "inside", inside)
	if _, err := s.bus.Poll(short(t), old); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	s.quiet(t)
}
