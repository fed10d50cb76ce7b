package service_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

// Who waits gets an answer, who comes later is refused; TestLinesComeAtOnceAndBeat and
// TestSIGTERMGivesEveryStreamItsLastAndEveryPollItsAnswer hold how streams end.
func TestDrainAnswersPollsAndRefusesWhatComesLater(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	polled := make(chan string, 1)
	go func() {
		defer close(polled)
		resp, answer := n.do(t, "GET", "/v1/poll?channels=c&timeout=50s", "")
		polled <- resp.Status + " " + strings.TrimSpace(string(answer))
	}()
	until(t, "the poll is parked", func() bool { return n.dispatcher.State().Subscriptions == 1 })
	id := n.send(t, jsonMessage("other", "1"))
	n.dispatcher.Drain()
	if got, want := <-polled, fmt.Sprintf(`200 OK {"notifications":[],"last":%d}`, id); got != want {
		t.Errorf("the poll that was open: %s, want %s", got, want)
	}
	_, err := n.client.Poll(short(t), &postbusv1.PollRequest{Channels: []string{"c"}})
	wantFault(t, err, codes.Unavailable, service.ReasonDraining, true)
	stream, err := n.client.Subscribe(short(t), &postbusv1.SubscribeRequest{Channels: []string{"c"}})
	must(t, err)
	_, err = stream.Recv()
	wantFault(t, err, codes.Unavailable, service.ReasonDraining, true)
	for _, route := range []string{"poll", "subscribe"} {
		resp, answer := n.do(t, "GET", "/v1/"+route+"?channels=c", "")
		loadSchemas(t).check(t, "Error", answer)
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(answer), `"reason":"DRAINING"`) {
			t.Errorf("%s: %s %s", route, resp.Status, answer)
		}
	}
}

// TestReadersAboveTheBoundGet429AndAreTakenInLater is the same by HTTP.
func TestReadersAboveTheBoundAreRefusedAndCounted(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{MaxReaders: 1})
	n.lines(t, nil, "channels=c").next(t)
	_, err := n.client.Poll(short(t), &postbusv1.PollRequest{Channels: []string{"c"}})
	wantFault(t, err, codes.ResourceExhausted, service.ReasonTooManyReaders, true)
	stream, err := n.client.Subscribe(short(t), &postbusv1.SubscribeRequest{Channels: []string{"c"}})
	must(t, err)
	_, err = stream.Recv()
	wantFault(t, err, codes.ResourceExhausted, service.ReasonTooManyReaders, true)
	if stats := n.service.Stats(); stats.OpenStreams != 1 || stats.OpenPolls != 0 || stats.Faults[service.ReasonTooManyReaders] != 2 {
		t.Errorf("%+v", stats)
	}
}
