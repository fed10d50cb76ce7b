package service

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
)

// wantRefusal fails the test unless err says which field is at fault, and how, or that
// the request is no JSON.
func wantRefusal(t *testing.T, err error) {
	t.Helper()
	var invalid *bus.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Violations) == 0 || len(invalid.Violations) > 20 {
		t.Fatalf("%v (%T) names no field", err, err)
	}
	for _, v := range invalid.Violations {
		if v.Fault == "" || v.Field == "" && invalid.Reason != bus.MalformedJSON {
			t.Fatalf("%s: %+v", invalid.Reason, v)
		}
		if len(v.Field)+len(v.Fault) > 2_000 {
			t.Fatalf("%d bytes of refusal", len(v.Field)+len(v.Fault))
		}
	}
}

// newFuzzed returns a service that only checks.
func newFuzzed() *Service {
	return &Service{limits: bus.DefaultLimits(), opts: Options{PollTimeout: defaultPollTimeout}}
}

// decode reads data as gRPC does; false: it is not protobuf.
func decode(t *testing.T, data []byte, into proto.Message) bool {
	t.Helper()
	in := &arrival{message: into, most: 4<<20 + 64<<10}
	if err := (arrivalCodec{newFrameCodec()}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, in); err != nil {
		t.Fatalf("the codec fails: %v", err)
	}
	return in.err == nil && in.size <= in.most
}

func FuzzSendOfProtobuf(f *testing.F) {
	for _, m := range []*postbusv1.Message{
		{}, {Channel: "a", Body: &postbusv1.Message_Json{Json: `{"a": 1e400}`}, Headers: map[string]string{"h": "v"}, Key: "k"},
		{Channel: "a", Type: "t", Body: &postbusv1.Message_Binary{Binary: []byte{0, 255}}, Ttl: durationpb.New(time.Second)},
		{Channel: "postbus:x", Ttl: &durationpb.Duration{Seconds: 1 << 62, Nanos: -1}},
	} {
		data, err := proto.Marshal(&postbusv1.SendRequest{Messages: []*postbusv1.Message{m, m}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, 0x98, 0x3f, 1)) // a field that nobody knows
	}
	s := newFuzzed()
	f.Fuzz(func(t *testing.T, data []byte) {
		var req postbusv1.SendRequest
		if !decode(t, data, &req) {
			return
		}
		messages, err := s.messagesOf(&req)
		if err != nil {
			wantRefusal(t, err)
			return
		}
		if len(messages) == 0 || len(messages) > s.limits.MaxMessages || len(messages) != len(req.Messages) {
			t.Fatalf("%d messages of %d", len(messages), len(req.Messages))
		}
		for i, m := range messages {
			n := &bus.Notification{ID: 1, Channel: m.Channel, Type: m.Type, Headers: m.Headers, JSON: m.JSON, Binary: m.Binary}
			var back postbusv1.SubscribeResponse
			if err := proto.Unmarshal(encodeNotification(n), &back); err != nil || len(back.Notifications) != 1 {
				t.Fatalf("what is delivered of %+v is no protobuf: %v", m, err)
			}
			got, sent := back.Notifications[0], req.Messages[i]
			json := sent.GetJson()
			if sent.Body == nil {
				json = "null"
			}
			if got.Channel != sent.Channel || got.Type != sent.Type || !maps.Equal(got.Headers, sent.Headers) ||
				got.GetJson() != json || !bytes.Equal(got.GetBinary(), sent.GetBinary()) || m.TTL < 0 {
				t.Fatalf("sent %v, got %v", sent, got)
			}
		}
	})
}

func FuzzReadersOfProtobuf(f *testing.F) {
	negative, one := int64(-1), int32(1)
	for _, m := range []proto.Message{
		&postbusv1.PollRequest{}, &postbusv1.PollRequest{Channels: []string{"a", "a", "b"}, After: &negative, Max: &one},
		&postbusv1.SubscribeRequest{Channels: []string{"a"}, Heartbeat: &durationpb.Duration{Seconds: 1 << 62}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	s := newFuzzed()
	f.Fuzz(func(t *testing.T, data []byte) {
		var poll postbusv1.PollRequest
		if decode(t, data, &poll) {
			if r, err := s.readingOf(&poll); err != nil {
				wantRefusal(t, err)
			} else if r.wait < 0 || r.wait > maxWait || r.max < 1 || r.max > maxPollMax || r.after != nil && *r.after < 0 {
				t.Fatalf("%+v", r)
			} else {
				wantChannels(t, s, r.channels, poll.Channels)
			}
		}
		var subscribe postbusv1.SubscribeRequest
		if decode(t, data, &subscribe) {
			if w, err := s.walkingOf(&subscribe); err != nil {
				wantRefusal(t, err)
			} else if w.heartbeat < minHeartbeat || w.heartbeat > maxWait || w.after != nil && *w.after < 0 {
				t.Fatalf("%+v", w)
			} else {
				wantChannels(t, s, w.channels, subscribe.Channels)
			}
		}
	})
}

// wantChannels fails the test unless got is asked for, each channel once, within the limits.
func wantChannels(t *testing.T, s *Service, got, asked []string) {
	t.Helper()
	if len(s.limits.CheckChannels("channels", got)) > 0 {
		t.Fatalf("accepted %q", got)
	}
	for i, channel := range got {
		if slices.Contains(got[:i], channel) {
			t.Fatalf("%q comes twice", channel)
		}
	}
	for _, channel := range asked {
		if !slices.Contains(got, channel) {
			t.Fatalf("%q is missing in %q", channel, got)
		}
	}
}
