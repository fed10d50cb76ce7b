//go:build unix

package sink

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of the responses that a reader walks over (bus.proto).
const (
	tagNotifications = 1<<3 | byte(protowire.BytesType) // of SubscribeResponse
	tagLast          = 2 << 3                           // of SubscribeResponse, a varint
	tagID            = 1 << 3                           // of Notification, a varint, always the first of its fields
)

// A reader is the receiving end of one Subscribe stream, or of polls, as cheap as can be: it counts
// the notifications and looks at their ids, and decodes nothing else. Ids must ascend,
// so a count that is right says that each message came exactly once
// (TestReaderTakesEachMessageOnce).
type reader struct {
	responses int64
	filled    int64  // responses that had notifications
	count     int64  // notifications
	last      int64  // the highest id
	partial   []byte // of a response whose end has not come
	unasked   int    // bytes that no WINDOW_UPDATE has given back
}

// take reads a part of the stream and returns how many notifications it completes.
func (r *reader) take(data []byte) (notifications int, err error) {
	if len(r.partial) > 0 {
		r.partial = append(r.partial, data...)
		data = r.partial
	}
	const head = 5 // one byte of flags, four of length
	for len(data) >= head {
		if data[0] != 0 {
			return notifications, errors.New("a compressed response")
		}
		end := head + int(binary.BigEndian.Uint32(data[1:head]))
		if len(data) < end {
			break
		}
		n, err := r.response(data[head:end])
		notifications += n
		if err != nil {
			return notifications, err
		}
		data = data[end:]
	}
	r.partial = append(r.partial[:0], data...)
	return notifications, nil
}

// response walks over one SubscribeResponse.
func (r *reader) response(body []byte) (notifications int, err error) {
	r.responses++
	for len(body) > 0 {
		tag := body[0]
		value, size := protowire.ConsumeVarint(body[1:])
		if size < 0 {
			return notifications, fmt.Errorf("response %d: %w", r.responses, protowire.ParseError(size))
		}
		body = body[1+size:]
		switch {
		case tag == tagLast:
		case tag == tagNotifications && value <= uint64(len(body)):
			if err := r.notification(body[:value]); err != nil {
				return notifications, err
			}
			notifications++
			body = body[value:]
		default:
			return notifications, fmt.Errorf("response %d: tag %d with %d in the last %d bytes", r.responses, tag, value, len(body))
		}
	}
	if notifications > 0 {
		r.filled++
	}
	return notifications, nil
}

func (r *reader) notification(body []byte) error {
	if len(body) == 0 || body[0] != tagID {
		return errors.New("a notification that does not begin with its id")
	}
	id, size := protowire.ConsumeVarint(body[1:])
	if size < 0 {
		return fmt.Errorf("id: %w", protowire.ParseError(size))
	}
	return r.next(int64(id))
}

// next counts a notification.
func (r *reader) next(id int64) error {
	if id <= r.last {
		return fmt.Errorf("id %d behind %d", id, r.last)
	}
	r.last = id
	r.count++
	return nil
}
