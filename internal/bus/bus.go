// Package bus holds the words of the domain: what is sent, what is received, and
// what may go wrong. Every other package speaks in them; this one imports
// nothing but the standard library.
package bus

import (
	"sync/atomic"
	"time"
)

// An ID is a notification's number. Ids ascend in commit order, which is the order
// of delivery; a gap between two ids means nothing. They start at 1, and a new
// history's start at a higher multiple of 2^32. As a cursor an ID means
// "everything up to here", and 0 is before every id.
type ID int64

// A Message is what is sent. Exactly one body counts: Binary when it is not nil,
// else JSON.
type Message struct {
	Channel string
	Type    string
	JSON    string // a JSON text
	Binary  []byte
	Headers map[string]string
	TTL     time.Duration // 0: the server's retention
	Key     string        // idempotency key; "": none
}

// Size returns the bytes that m counts for against limits and bounds.
func (m *Message) Size() int {
	n := len(m.Channel) + len(m.Type) + len(m.JSON) + len(m.Binary) + len(m.Key)
	for k, v := range m.Headers {
		n += len(k) + len(v)
	}
	return n
}

// A Receipt is what became of one message: its id or, when a message with its key
// was there before, that one's.
type Receipt struct {
	ID        ID
	Duplicate bool
}

// A Notification is what is received: a message with its id. It is shared by every
// reader and immutable; only its encodings are filled in, once each.
type Notification struct {
	ID      ID
	Channel string
	Type    string
	JSON    string // the payload's JSON text, unless Binary is set
	Binary  []byte // not nil: the payload is these bytes
	Headers map[string]string
	SentAt  time.Time // the database's clock when it was numbered
	Expires time.Time // this machine's clock; zero: with the retention

	encoded [encodings]atomic.Pointer[[]byte]
}

// An Encoding is a wire form of a notification.
type Encoding int

// The wire forms.
const (
	EncodingProto  Encoding = iota // the entry of a repeated protobuf field
	EncodingJSON                   // the JSON object of the HTTP transports
	EncodingOdoo13                 // the JSON object of Odoo 13 and 14
	EncodingOdoo15                 // that of Odoo 15 and later

	encodings = 4
)

// Encoded returns n in wire form e, made by encode when it is first asked for. The
// bytes are shared: nobody may change them.
func (n *Notification) Encoded(e Encoding, encode func(*Notification) []byte) []byte {
	if b := n.encoded[e].Load(); b != nil {
		return *b
	}
	b := encode(n)
	n.encoded[e].CompareAndSwap(nil, &b)
	return *n.encoded[e].Load()
}

// Size returns the bytes that n counts for against bounds: its strings and a fixed
// sum for the rest of it in memory.
func (n *Notification) Size() int {
	size := notificationOverhead + len(n.Channel) + len(n.Type) + len(n.JSON) + len(n.Binary)
	for k, v := range n.Headers {
		size += len(k) + len(v)
	}
	return size
}

// notificationOverhead is what a Notification takes beside its strings.
const notificationOverhead = 256

// Expired reports whether n's life is over at now.
func (n *Notification) Expired(now time.Time) bool {
	return !n.Expires.IsZero() && !now.Before(n.Expires)
}

// A Reason says why messages may be missing.
type Reason int

// The reasons, with the numbers of the wire.
const (
	Trimmed Reason = 1 // retention took them before they were read
	History Reason = 2 // a failover or a restore of the database lost them
	Ahead   Reason = 3 // the cursor is newer than any id the database ever gave
)

// A Gap says that messages with ids in (After, Until] may be missing.
type Gap struct {
	Reason Reason
	After  ID
	Until  ID
}

// Widen returns the one gap that covers g and h; either may be nil. The wider
// one's reason is kept.
func (g *Gap) Widen(h *Gap) *Gap {
	if g == nil {
		return h
	}
	if h == nil {
		return g
	}
	w := *g
	if h.Until-h.After > g.Until-g.After {
		w.Reason = h.Reason
	}
	w.After = min(g.After, h.After)
	w.Until = max(g.Until, h.Until)
	return &w
}

// A Past is the boundary between two histories of the database: what was numbered
// above Survived and up to Until may be lost. The new history's first id is
// Until + 1.
type Past struct {
	Survived ID
	Until    ID
}
