package client

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// FuzzResponse: whatever a server answers, what is handed out ascends, but behind a gap,
// and the cursor is that of the last event or above it.
func FuzzResponse(f *testing.F) {
	for _, r := range []*postbusv1.SubscribeResponse{
		{}, {Last: 7}, {Last: -1}, {Notifications: []*postbusv1.Notification{{Id: 3, Body: &postbusv1.Notification_Json{Json: "1"}}, {Id: 2}, {Id: 9}}, Last: 4},
		{Gap: &postbusv1.Gap{Reason: 77, After: 9, Until: 1}, Notifications: []*postbusv1.Notification{{Id: 1}, {Id: 2}}, Last: 2},
	} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, int64(2), true)
		f.Add(data, int64(0), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, after int64, positions bool) {
		var response postbusv1.SubscribeResponse
		if proto.Unmarshal(data, &response) != nil || after < 0 {
			return
		}
		s := new(Client).Subscribe(SubscribeOptions{Channels: []string{"a"}, After: &after, Positions: positions})
		last := after
		s.deliver(t.Context(), &response, func(e Event, err error) bool {
			switch {
			case err != nil:
				t.Fatal(err)
			case e.Gap != nil:
				last = e.Gap.Until
				return true
			case e.Last < last || e.Notification != nil && (e.Last != e.Notification.ID || e.Last == last):
				t.Fatalf("%d after %d", e.Last, last)
			case e.Notification == nil && !positions:
				t.Fatal("a position that nobody asked for")
			case e.Notification != nil && (e.Notification.Payload == nil) == (e.Notification.Binary == nil):
				t.Fatalf("a payload and bytes, or neither: %+v", e.Notification)
			}
			last = e.Last
			return true
		})
		if at, begun := s.Last(); !begun || at < last {
			t.Fatalf("the cursor is %d, the last event's %d", at, last)
		}
	})
}

// FuzzStatus: whatever a server refuses with, a client waits for no longer than a minute
// on its word, and never takes for granted that nothing was stored unless the
// server itself says so.
func FuzzStatus(f *testing.F) {
	asks, err := status.New(codes.ResourceExhausted, "x").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(24 * time.Hour)}, &errdetails.ErrorInfo{Domain: "elsewhere"})
	if err != nil {
		f.Fatal(err)
	}
	data, err := proto.Marshal(asks.Proto())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var wire statuspb.Status
		if proto.Unmarshal(data, &wire) != nil {
			return
		}
		err := status.FromProto(&wire).Err()
		if err == nil {
			return
		}
		if wait := askedDelay(err); wait < 0 || wait > time.Minute {
			t.Fatalf("waits %v", wait)
		}
		if outcomeOf(err) == outcomeNotStored && !fromServer(err) {
			t.Fatalf("%v: not stored", err)
		}
	})
}
