//go:build unix

package bare

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// A press prepares bytes: copies of one notification, each with the next id.
type press struct {
	entry []byte // a repeated field entry
	at    int    // where its id is
	id    uint64
}

// firstID is the smallest id of five bytes: all ids here have as many.
const firstID = 1 << 28

func newPress() (*press, error) {
	text, err := proto.Marshal(&postbusv1.Notification{
		Id: firstID, Channel: Channel, Body: &postbusv1.Notification_Json{Json: rig.Payload()}, SentAt: timestamppb.Now(),
	})
	if err != nil {
		return nil, err
	}
	p := &press{id: firstID}
	p.entry = protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(len(text))) // SubscribeResponse.notifications
	p.at = len(p.entry) + 1
	p.entry = append(p.entry, text...)
	return p, nil
}

// frame returns the next count notifications in one response of one piece.
func (p *press) frame(count int) preparedFrame {
	text := make([]byte, 0, count*len(p.entry)+6)
	for range count {
		p.id++
		protowire.AppendVarint(p.entry[:p.at], p.id) // in place
		text = append(text, p.entry...)
	}
	text = protowire.AppendVarint(protowire.AppendTag(text, 2, protowire.VarintType), p.id) // SubscribeResponse.last
	return preparedBytes{mem.SliceBuffer(text)}
}
