package odoo

import (
	"strconv"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

// appendNotifications appends the array of notifications in the shape of Odoo 15 and later.
// Each one's is written once, for all readers.
func appendNotifications(dst []byte, ns []*bus.Notification) []byte {
	dst = append(dst, '[')
	for i, n := range ns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, n.Encoded(bus.EncodingOdoo, notificationJSON)...)
	}
	return append(dst, ']')
}

func notificationJSON(n *bus.Notification) []byte {
	dst := append([]byte(nil), `{"id":`...)
	dst = strconv.AppendInt(dst, int64(n.ID), 10)
	dst = append(dst, `,"message":{"type":`...)
	dst = jsonform.AppendString(dst, n.Type)
	dst = append(dst, `,"payload":`...)
	dst = appendBody(dst, n)
	return append(dst, `}}`...)
}

// appendBody appends the payload; bytes are a string of base64.
func appendBody(dst []byte, n *bus.Notification) []byte {
	if n.Binary != nil {
		return jsonform.AppendBinary(dst, n.Binary)
	}
	return jsonform.AppendPayload(dst, n.JSON)
}
