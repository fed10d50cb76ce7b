package odoo

import (
	"strconv"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

// A form is how one notification is written.
type form struct {
	encoding bus.Encoding
	encode   func(*bus.Notification) []byte
}

var (
	// form13 is that of 13 and 14: the message is the payload alone.
	form13 = form{bus.EncodingOdoo13, func(n *bus.Notification) []byte {
		dst := beginForm(n)
		dst = append(dst, `,"channel":`...)
		dst = jsonform.AppendString(dst, n.Channel)
		dst = append(dst, `,"message":`...)
		dst = appendBody(dst, n)
		return append(dst, '}')
	}}
	// form15 is that of 15 and later, which does not say the channel.
	form15 = form{bus.EncodingOdoo15, func(n *bus.Notification) []byte {
		dst := beginForm(n)
		dst = append(dst, `,"message":{"type":`...)
		dst = jsonform.AppendString(dst, n.Type)
		dst = append(dst, `,"payload":`...)
		dst = appendBody(dst, n)
		return append(dst, `}}`...)
	}}
)

// appendNotifications appends the array of notifications. Each one's is written once, for
// all readers.
func appendNotifications(dst []byte, ns []*bus.Notification, f form) []byte {
	dst = append(dst, '[')
	for i, n := range ns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, n.Encoded(f.encoding, f.encode)...)
	}
	return append(dst, ']')
}

// beginForm returns the beginning of n's form, with room for the rest of it.
func beginForm(n *bus.Notification) []byte {
	dst := make([]byte, 0, 64+len(n.Channel)+len(n.Type)+len(n.JSON)+(len(n.Binary)+2)/3*4)
	dst = append(dst, `{"id":`...)
	return strconv.AppendInt(dst, int64(n.ID), 10)
}

// appendBody appends the payload; bytes are a string of base64.
func appendBody(dst []byte, n *bus.Notification) []byte {
	if n.Binary != nil {
		return jsonform.AppendBinary(dst, n.Binary)
	}
	return jsonform.AppendPayload(dst, n.JSON)
}
