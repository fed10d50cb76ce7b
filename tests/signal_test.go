package tests

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func jsonMessage(channel, payload string) *postbusv1.Message {
	return &postbusv1.Message{Channel: channel, Body: &postbusv1.Message_Json{Json: payload}}
}

// send sends messages and returns the id of the last.
func send(t *testing.T, to postbusv1.BusServiceClient, messages ...*postbusv1.Message) int64 {
	t.Helper()
	ctx := short(t)
	resp, err := to.Send(ctx, &postbusv1.SendRequest{Messages: messages})
	must(t, err)
	return resp.Results[len(resp.Results)-1].Id
}

// read reads count notifications from the oldest on; it waits for them.
func read(t *testing.T, from postbusv1.BusServiceClient, count int, channels ...string) (got []*postbusv1.Notification) {
	t.Helper()
	for after := int64(0); len(got) < count; {
		resp, err := from.Poll(short(t), &postbusv1.PollRequest{Channels: channels, After: &after, Timeout: durationpb.New(longest)})
		must(t, err)
		if resp.Gap != nil || len(resp.Notifications) == 0 {
			t.Fatalf("%d of %d notifications, then %v", len(got), count, resp)
		}
		got, after = append(got, resp.Notifications...), resp.Last
	}
	return got
}

// An ending is how a stream ended: the last response before, and the error.
type ending struct {
	last *postbusv1.SubscribeResponse
	err  error
}

// openStreams opens n streams over as many connections as it takes, waits for the first
// response of each, and returns their endings.
func openStreams(t *testing.T, s *served, n int) <-chan ending {
	t.Helper()
	const each = 100
	endings := make(chan ending, n)
	opened := make(chan error, n)
	for first := 0; first < n; first += each {
		conn, err := grpc.NewClient(s.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		for range min(each, n-first) {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
				defer cancel()
				stream, err := postbusv1.NewBusServiceClient(conn).Subscribe(ctx, &postbusv1.SubscribeRequest{
					Channels: []string{"read"}, Heartbeat: durationpb.New(50 * time.Second)})
				if err == nil {
					_, err = stream.Recv()
				}
				opened <- err
				var end ending
				for err == nil {
					var next *postbusv1.SubscribeResponse
					if next, err = stream.Recv(); err == nil {
						end.last = next
					}
				}
				end.err = err
				endings <- end
			}()
		}
	}
	for range n {
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
	}
	return endings
}

func TestSIGTERMGivesEveryStreamItsLastAndEveryPollItsAnswer(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url, "--drain-timeout", "50s")
	const streams, polls = 1_000, 20
	endings := openStreams(t, s, streams)

	answers := make(chan error, polls)
	for range polls {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			resp, err := s.bus.Poll(ctx, &postbusv1.PollRequest{Channels: []string{"read"}, Timeout: durationpb.New(50 * time.Second)})
			if err == nil && len(resp.Notifications) > 0 {
				err = fmt.Errorf("notifications that nobody sent: %v", resp)
			}
			answers <- err
		}()
	}
	s.awaitMetric(t, "postbus_polls", polls)
	head := send(t, s.bus, jsonMessage("other", "1"), jsonMessage("other", "2"))

	ctx := short(t)
	// A watch never ends by itself, and must not hold the stop up.
	watch, err := healthv1.NewHealthClient(s.conn).Watch(ctx, new(healthv1.HealthCheckRequest))
	must(t, err)
	if health, err := watch.Recv(); err != nil || health.Status != healthv1.HealthCheckResponse_SERVING {
		t.Fatal(health, err)
	}

	asked := time.Now()
	s.signal(t, syscall.SIGTERM)
	if health, err := watch.Recv(); err != nil || health.Status != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health after SIGTERM: %v, %v", health, err)
	}
	for range polls {
		if err := <-answers; err != nil {
			t.Errorf("a waiting poll: %v", err)
		}
	}
	for range streams {
		end := <-endings
		if end.last == nil || end.last.Last != head || len(end.last.Notifications) > 0 {
			t.Fatalf("the last response of a stream is %v, want one with last %d", end.last, head)
		}
		if status.Code(end.err) != codes.Unavailable || reason(end.err) != "DRAINING" {
			t.Fatalf("a stream ended with %v", end.err)
		}
	}
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(asked); took > 40*time.Second {
		t.Errorf("the stop took %v: something held it up until its deadline", took)
	}
}

func TestSIGTERMAnswersEveryAcceptedSend(t *testing.T) {
	url := pgtest.Database(t)
	s := serve(t, url)
	var mu sync.Mutex
	answered := make(map[string]bool)
	var senders sync.WaitGroup
	for sender := range 16 {
		senders.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for i := 0; ; i++ {
				payload := fmt.Sprintf("[%d, %d]", sender, i)
				_, err := s.bus.Send(ctx, &postbusv1.SendRequest{Messages: []*postbusv1.Message{jsonMessage("sent", payload)}})
				if err != nil {
					// Without ErrorInfo it is the connection that is gone.
					if status.Code(err) != codes.Unavailable || reason(err) != "" && reason(err) != "DRAINING" {
						t.Errorf("send during the stop: %v", err)
					}
					return
				}
				mu.Lock()
				answered[payload] = true
				mu.Unlock()
			}
		})
	}
	until(t, "200 sends are answered", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(answered) > 200
	})
	s.stop(t)
	senders.Wait()

	stored := make(map[string]bool)
	for _, payload := range column(t, url, "SELECT json FROM postbus.bus") {
		stored[payload] = true
	}
	for payload := range answered {
		if !stored[payload] {
			t.Errorf("%s was answered and is not there", payload)
		}
	}
	for payload := range stored {
		if !answered[payload] {
			t.Errorf("%s is there and was not answered", payload)
		}
	}
}

// column returns the texts of a query of one column.
func column(t *testing.T, url, query string, args ...any) []string {
	t.Helper()
	rows, err := sql(t, url).Query(short(t), query, args...)
	must(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return texts
}

// stallOn opens a stream that is not read any more while there is more to send than
// the connection takes.
func stallOn(t *testing.T, s *served) {
	t.Helper()
	conn, err := grpc.NewClient(s.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(1<<16))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	stalled, err := postbusv1.NewBusServiceClient(conn).Subscribe(t.Context(), &postbusv1.SubscribeRequest{Channels: []string{"big"}})
	must(t, err)
	if _, err := stalled.Recv(); err != nil {
		t.Fatal(err)
	}
	big := `"` + strings.Repeat("x", 1<<19) + `"`
	for range 4 {
		send(t, s.bus, jsonMessage("big", big))
	}
	s.awaitMetric(t, "postbus_streams", 1)
}

func TestASecondSIGTERMExitsAtOnce(t *testing.T) {
	s := serve(t, pgtest.Database(t), "--drain-timeout", "50m")
	stallOn(t, s)
	s.signal(t, syscall.SIGTERM)
	s.await(t, &s.Stderr, "log that it drains", func(text string) bool { return strings.Contains(text, `"draining"`) })
	s.signal(t, syscall.SIGTERM)
	if code := s.code(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(s.Stderr.String(), "postbus: stopped by a second signal") {
		t.Error("it does not say why it ended")
	}
}

func TestAReaderThatStallsDoesNotHoldTheStopUpForEver(t *testing.T) {
	s := serve(t, pgtest.Database(t), "--drain-timeout", "1s")
	stallOn(t, s)
	s.signal(t, syscall.SIGTERM)
	// Not every stream could be given its last, which is no clean stop.
	if code := s.code(t); code != 1 || !strings.Contains(s.Stderr.String(), "postbus: stop within 1s: ") {
		t.Errorf("exit code %d", code)
	}
}
