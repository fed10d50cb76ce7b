package service

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// The fields of SubscribeResponse and of PollResponse, as bus.proto numbers them
// (TestFrameIsAResponse).
const (
	fieldNotifications protowire.Number = 1
	fieldLast          protowire.Number = 2
	fieldGap           protowire.Number = 3
)

// A frame is a SubscribeResponse or a PollResponse that is encoded already: shared immutable buffers, one
// for each notification, and one of its own for the cursor. A repeated protobuf
// field is a concatenation, so nothing is encoded or copied for each reader.
type frame mem.BufferSlice

// newFrame returns the frame of b. The slice is gRPC's once it is sent, which keeps it
// until it is written: it is never used again.
func newFrame(b dispatch.Batch) frame {
	f := make(frame, 0, len(b.Notifications)+1)
	for _, n := range b.Notifications {
		f = append(f, mem.SliceBuffer(n.Encoded(bus.EncodingProto, encodeNotification)))
	}
	end := protowire.AppendTag(nil, fieldLast, protowire.VarintType)
	end = protowire.AppendVarint(end, uint64(b.Last))
	if b.Gap != nil {
		// Of three numbers: marshalling cannot fail.
		gap, _ := protobuf.Marshal(gapOf(b.Gap))
		end = protowire.AppendTag(end, fieldGap, protowire.BytesType)
		end = protowire.AppendBytes(end, gap)
	}
	return append(f, mem.SliceBuffer(end))
}

// encodeNotification returns the entry of the repeated field notifications.
func encodeNotification(n *bus.Notification) []byte {
	m := notificationOf(n)
	size := protobuf.Size(m)
	b := make([]byte, 0, protowire.SizeTag(fieldNotifications)+protowire.SizeBytes(size))
	b = protowire.AppendTag(b, fieldNotifications, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	// It fails on invalid UTF-8 alone, which is refused at the way in and by the
	// database.
	b, _ = protobuf.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	return b
}

func notificationOf(n *bus.Notification) *postbusv1.Notification {
	m := &postbusv1.Notification{
		Id:      int64(n.ID),
		Channel: n.Channel,
		Type:    n.Type,
		Headers: n.Headers,
		SentAt:  timestamppb.New(n.SentAt),
	}
	if n.Binary != nil {
		m.Body = &postbusv1.Notification_Binary{Binary: n.Binary}
	} else {
		m.Body = &postbusv1.Notification_Json{Json: n.JSON}
	}
	return m
}

func gapOf(g *bus.Gap) *postbusv1.Gap {
	if g == nil {
		return nil
	}
	return &postbusv1.Gap{Reason: postbusv1.Gap_Reason(g.Reason), After: int64(g.After), Until: int64(g.Until)}
}

// frameCodec is the proto codec, but that frames pass as they are.
type frameCodec struct{ encoding.CodecV2 }

func newFrameCodec() frameCodec { return frameCodec{encoding.GetCodecV2(proto.Name)} }

// Marshal returns the wire form of v.
func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(frame); ok {
		return mem.BufferSlice(f), nil
	}
	return c.CodecV2.Marshal(v)
}
