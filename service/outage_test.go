package service_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service"
)

// A line stream in an outage; TestDatabaseOutageUnderLoadLosesNothingThatWasAnswered holds
// what gRPC says in one.
func TestLineStreamStaysOpenThroughAnOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.Exclusive(t, nil)
	n := start(t, pgtest.DatabaseOn(t, server), nodeOptions{})
	lines := n.lines(t, nil, "channels=c&heartbeat=1s")
	lines.next(t)
	must(t, server.StopImmediate(short(t)))
	until(t, "the node has noticed", func() bool { return !n.dispatcher.State().Connected })
	resp, answer := n.do(t, "GET", "/v1/poll?channels=c&timeout=0s", "")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(answer), `"reason":"DATABASE_UNAVAILABLE"`) {
		t.Errorf("poll in the outage: %s %s", resp.Status, answer)
	}
	var err error
	until(t, "a send meets no connection that died under it", func() bool {
		_, err = n.client.Send(short(t), &postbusv1.SendRequest{Messages: []*postbusv1.Message{jsonMessage("c", "1")}})
		return status.Code(err) != codes.Unknown
	})
	wantFault(t, err, codes.Unavailable, service.ReasonDatabaseUnavailable, true)
	if beat := lines.next(t); beat != `{"notifications":[],"last":0}` {
		t.Errorf("heartbeat in the outage: %s", beat)
	}

	must(t, server.Restart(short(t)))
	until(t, "the node is back", func() bool { return n.dispatcher.State().Connected })
	keyed := jsonMessage("c", `"after it"`)
	keyed.Key = "k" // the first may still meet a connection that died
	until(t, "a send is answered", func() bool {
		_, err := n.client.Send(short(t), &postbusv1.SendRequest{Messages: []*postbusv1.Message{keyed}})
		return err == nil
	})
	for {
		var got struct {
			Notifications []struct{ Payload json.RawMessage }
			Gap           json.RawMessage
		}
		line := lines.next(t)
		must(t, json.Unmarshal([]byte(line), &got))
		if got.Gap != nil || len(got.Notifications) > 1 {
			t.Fatal(line)
		}
		if len(got.Notifications) == 1 {
			if string(got.Notifications[0].Payload) != `"after it"` {
				t.Fatal(line)
			}
			return
		}
	}
}

// A stream that is behind the window reads the table. While that fails it gets
// heartbeats, and then the rest, once.
func TestStreamSitsOutReadsThatFail(t *testing.T) {
	t.Parallel()
	const total = 20
	server := pgtest.Exclusive(t, nil)
	n := start(t, pgtest.DatabaseOn(t, server), nodeOptions{WindowBytes: 1})
	text := `"` + strings.Repeat("x", 900<<10) + `"` // one or two make a response
	var ids []int64
	for range total {
		ids = append(ids, n.send(t, jsonMessage("c", text)))
	}

	// With small buffers the node reads only a little ahead of the reader.
	slow := n.dial(t, grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	stream, err := slow.Subscribe(short(t), &postbusv1.SubscribeRequest{
		Channels: []string{"c"}, After: new(int64), Heartbeat: durationpb.New(time.Second),
	})
	must(t, err)
	beats, stopped := 0, false
	for len(ids) > 0 {
		resp, err := stream.Recv()
		if err != nil || resp.Gap != nil {
			t.Fatalf("with %d to come: %v, gap %v", len(ids), err, resp.GetGap())
		}
		for _, got := range resp.Notifications {
			if got.Id != ids[0] {
				t.Fatalf("got %d, want %d", got.Id, ids[0])
			}
			ids = ids[1:]
		}
		switch {
		case !stopped:
			stopped = true
			must(t, server.StopImmediate(short(t)))
		case len(resp.Notifications) == 0:
			if beats++; beats == 1 {
				if len(ids) == 0 || resp.Last != ids[0]-1 {
					t.Fatalf("heartbeat with last %d, want %d", resp.Last, ids[0]-1)
				}
				must(t, server.Restart(short(t)))
			}
		}
	}
	if beats == 0 {
		t.Error("no heartbeat while the table could not be read")
	}
}
