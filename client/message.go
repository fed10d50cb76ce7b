package client

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A Message is what is sent. The limits are the server's, which names what exceeds
// them.
type Message struct {
	// Channel is the address: 1 to 255 bytes. Required.
	Channel string

	// Type is what kind of message it is, for the reader to dispatch on: 0 to 255 bytes.
	Type string

	// Payload is a JSON text, delivered as the same tokens. Nil: the JSON null,
	// unless Binary is set.
	Payload json.RawMessage

	// Binary is delivered as the same bytes. Not nil: the body is this, and Payload
	// must be nil.
	Binary []byte

	// Headers are metadata for the reader: at most 64, 4 KiB in all.
	Headers map[string]string

	// TTL is how long the message may be delivered. 0: the server's retention.
	TTL time.Duration

	// Key makes sending idempotent: a second message with it on the same channel
	// stores nothing. "": none. NewKey returns a fresh one.
	Key string
}

// A Receipt is what became of one message.
type Receipt struct {
	// ID is the message's number; with Duplicate, that of the first one with its key.
	ID int64

	// Duplicate says that a message with this key was already there, and this one was
	// not stored. After a break within Send the one that was there may be this Send's own.
	Duplicate bool
}

// A Notification is what is received: a message with its id.
type Notification struct {
	// ID is its number, above 0. Ids ascend in the order of delivery; a gap between
	// two ids means nothing.
	ID int64

	// Channel and Type are as sent.
	Channel string
	Type    string

	// Payload is the JSON text, the tokens as sent. Nil if and only if Binary is not.
	Payload json.RawMessage

	// Binary is the bytes as sent; empty but not nil when none were.
	Binary []byte

	// Headers are as sent; nil when there are none.
	Headers map[string]string

	// SentAt is the database's clock when the message was numbered. It need not
	// ascend and is never a cursor.
	SentAt time.Time
}

// A Reason says why messages may be missing. Expect unknown ones from newer
// servers.
type Reason int32

// The reasons.
const (
	// ReasonTrimmed: retention took them before they were read.
	ReasonTrimmed Reason = 1
	// ReasonHistory: a failover or a restore of the database lost them.
	ReasonHistory Reason = 2
	// ReasonAhead: the cursor is newer than any id the database ever gave. Reading
	// goes on from the present position, which is below the cursor.
	ReasonAhead Reason = 3
)

// String returns the name that the reason has on the wire, REASON_TRIMMED for
// instance, or its number if it has none here.
func (r Reason) String() string { return postbusv1.Gap_Reason(r).String() }

// A Gap says that messages with ids in (After, Until] may be missing. It comes
// before the notifications above Until; reading goes on with what there is.
type Gap struct {
	Reason Reason
	After  int64
	Until  int64
}

// proto returns m as the wire has it, or what is wrong with the field of the
// i-th message. UTF-8 is checked here because the encoder's refusal looks like a
// fault of the server.
func (m *Message) proto(i int) (*postbusv1.Message, error) {
	fault := func(field, fault string) error { return fmt.Errorf("messages[%d].%s: %s", i, field, fault) }
	switch {
	case m.Payload != nil && m.Binary != nil:
		return nil, fault("payload", "set as well as binary, at most one of them")
	case m.TTL < 0:
		return nil, fault("ttl", fmt.Sprintf("%v, above 0s", m.TTL))
	case !utf8.ValidString(m.Channel):
		return nil, fault("channel", "not UTF-8")
	case !utf8.ValidString(m.Type):
		return nil, fault("type", "not UTF-8")
	case !utf8.Valid(m.Payload):
		return nil, fault("payload", "not UTF-8")
	case !utf8.ValidString(m.Key):
		return nil, fault("key", "not UTF-8")
	}
	for name, value := range m.Headers {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, fault("headers", fmt.Sprintf("%q is not UTF-8", name))
		}
	}
	p := &postbusv1.Message{Channel: m.Channel, Type: m.Type, Headers: m.Headers, Key: m.Key}
	switch {
	case m.Binary != nil:
		p.Body = &postbusv1.Message_Binary{Binary: m.Binary}
	case m.Payload != nil:
		p.Body = &postbusv1.Message_Json{Json: string(m.Payload)}
	}
	if m.TTL > 0 {
		p.Ttl = durationpb.New(m.TTL)
	}
	return p, nil
}

func notificationOf(p *postbusv1.Notification) *Notification {
	n := &Notification{
		ID: p.GetId(), Channel: p.GetChannel(), Type: p.GetType(), Headers: p.GetHeaders(), SentAt: p.GetSentAt().AsTime(),
	}
	switch body := p.GetBody().(type) {
	case *postbusv1.Notification_Binary:
		n.Binary = body.Binary
	case *postbusv1.Notification_Json:
		n.Payload = json.RawMessage(body.Json)
	default: // a body of a newer server: the rest of the notification still counts
		n.Payload = json.RawMessage("null")
	}
	return n
}

func gapOf(p *postbusv1.Gap) *Gap {
	if p == nil {
		return nil
	}
	return &Gap{Reason: Reason(p.GetReason()), After: p.GetAfter(), Until: p.GetUntil()}
}
