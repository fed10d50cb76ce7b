//go:build unix

package sink

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// wire writes responses as they are in the DATA frames of a stream.
func wire(t *testing.T, responses ...*postbusv1.SubscribeResponse) []byte {
	t.Helper()
	var stream []byte
	for _, r := range responses {
		body, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		stream = binary.BigEndian.AppendUint32(append(stream, 0), uint32(len(body)))
		stream = append(stream, body...)
	}
	return stream
}

func withIDs(ids ...int64) *postbusv1.SubscribeResponse {
	r := &postbusv1.SubscribeResponse{}
	for _, id := range ids {
		r.Notifications = append(r.Notifications, &postbusv1.Notification{
			Id: id, Channel: "a", Body: &postbusv1.Notification_Json{Json: rig.Payload()},
		})
		r.Last = id
	}
	return r
}

func TestReaderTakesEachMessageOnce(t *testing.T) {
	stream := wire(t, withIDs(), withIDs(1, 2, 300), withIDs(), withIDs(1<<40))
	for size := 1; size <= len(stream); size++ {
		var r reader
		total := 0
		for rest := stream; len(rest) > 0; {
			part := rest[:min(size, len(rest))]
			rest = rest[len(part):]
			n, err := r.take(bytes.Clone(part))
			if err != nil {
				t.Fatalf("in parts of %d bytes: %v", size, err)
			}
			total += n
		}
		if total != 4 || r.count != 4 || r.last != 1<<40 || r.responses != 4 || r.filled != 2 {
			t.Fatalf("in parts of %d bytes: %d taken, %+v", size, total, r)
		}
	}
}

func TestReaderRefusesWhatIsNotNewOrNotWhole(t *testing.T) {
	for name, c := range map[string]struct {
		stream []byte
		want   string
	}{
		"twice":      {wire(t, withIDs(5), withIDs(5)), "id 5 behind 5"},
		"descending": {wire(t, withIDs(5, 4)), "id 4 behind 5"},
		"a gap":      {wire(t, &postbusv1.SubscribeResponse{Gap: &postbusv1.Gap{After: 1}}), "tag 26"},
		"cut":        {[]byte{0, 0, 0, 0, 2, tagNotifications, 9}, "tag 10"},
		"without id": {[]byte{0, 0, 0, 0, 2, tagNotifications, 0}, "does not begin with its id"},
		"compressed": {[]byte{1, 0, 0, 0, 0}, "compressed"},
	} {
		_, err := new(reader).take(c.stream)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
