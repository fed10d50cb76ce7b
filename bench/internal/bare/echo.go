//go:build unix

package bare

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// An echo is what gRPC alone costs: it decodes requests, answers as many results, and
// holds streams open, without doing anything about either.
type echo struct {
	postbusv1.UnimplementedBusServiceServer
	last atomic.Int64
}

// Send answers one made-up id for each message.
func (e *echo) Send(_ context.Context, request *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
	results := make([]*postbusv1.SendResult, len(request.GetMessages()))
	for i := range results {
		results[i] = &postbusv1.SendResult{Id: e.last.Add(1)}
	}
	return &postbusv1.SendResponse{Results: results}, nil
}

// Subscribe opens a stream that stays silent.
func (e *echo) Subscribe(_ *postbusv1.SubscribeRequest, stream postbusv1.BusService_SubscribeServer) error {
	if err := stream.Send(&postbusv1.SubscribeResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func playEcho(_ context.Context, _ []string, in io.Reader, out io.Writer) error {
	return rig.ServeBus(&echo{}, in, out)
}
