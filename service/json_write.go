package service

import (
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"time"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/jsonform"
)

// appendBatch appends the JSON form of a PollResponse or a SubscribeResponse. Each
// notification's is written once, for all readers.
func appendBatch(dst []byte, b dispatch.Batch) []byte {
	dst = append(dst, `{"notifications":[`...)
	for i, n := range b.Notifications {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, n.Encoded(bus.EncodingJSON, notificationJSON)...)
	}
	dst = append(dst, `],"last":`...)
	dst = strconv.AppendInt(dst, int64(b.Last), 10)
	if b.Gap != nil {
		dst = append(dst, `,"gap":`...)
		dst = appendGap(dst, b.Gap)
	}
	return append(dst, '}')
}

func appendGap(dst []byte, g *bus.Gap) []byte {
	dst = append(dst, `{"reason":`...)
	dst = jsonform.AppendString(dst, postbusv1.Gap_Reason(g.Reason).String())
	dst = append(dst, `,"after":`...)
	dst = strconv.AppendInt(dst, int64(g.After), 10)
	dst = append(dst, `,"until":`...)
	dst = strconv.AppendInt(dst, int64(g.Until), 10)
	return append(dst, '}')
}

// notificationJSON returns the JSON form of n, on one line. Its payload has the
// tokens that were sent.
func notificationJSON(n *bus.Notification) []byte {
	b := make([]byte, 0, 128+len(n.Channel)+len(n.Type)+len(n.JSON)+base64.StdEncoding.EncodedLen(len(n.Binary)))
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, int64(n.ID), 10)
	b = append(b, `,"channel":`...)
	b = jsonform.AppendString(b, n.Channel)
	b = append(b, `,"type":`...)
	b = jsonform.AppendString(b, n.Type)
	b = append(b, ',')
	if n.Binary != nil {
		b = append(b, `"binary":`...)
		b = jsonform.AppendBinary(b, n.Binary)
	} else {
		b = append(b, `"payload":`...)
		b = jsonform.AppendPayload(b, n.JSON)
	}
	b = append(b, `,"headers":{`...)
	for i, name := range slices.Sorted(maps.Keys(n.Headers)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsonform.AppendString(b, name)
		b = append(b, ':')
		b = jsonform.AppendString(b, n.Headers[name])
	}
	b = append(b, `},"sent_at":"`...)
	b = n.SentAt.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, `"}`...)
}

// appendResults appends the JSON form of a SendResponse.
func appendResults(dst []byte, resp *postbusv1.SendResponse) []byte {
	dst = append(dst, `{"results":[`...)
	for i, r := range resp.GetResults() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":`...)
		dst = strconv.AppendInt(dst, r.GetId(), 10)
		dst = append(dst, `,"duplicate":`...)
		dst = strconv.AppendBool(dst, r.GetDuplicate())
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}
