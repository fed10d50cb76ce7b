//go:build unix

package rig

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// Dial returns a connection to a gRPC server on this machine, with gRPC's defaults.
func Dial(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// Payload is a JSON text of 200 bytes.
func Payload() string {
	return `{"order": 7, "text": "` + strings.Repeat("x", 200-24) + `"}`
}

// SendBurst sends size messages in one call.
func SendBurst(ctx context.Context, bus postbusv1.BusServiceClient, channel string, size int) error {
	request := &postbusv1.SendRequest{Messages: make([]*postbusv1.Message, size)}
	for i := range request.Messages {
		request.Messages[i] = &postbusv1.Message{Channel: channel, Body: &postbusv1.Message_Json{Json: Payload()}}
	}
	_, err := bus.Send(ctx, request)
	return err
}

// Subscribe returns a stream that misses nothing from now on.
func Subscribe(ctx context.Context, conn *grpc.ClientConn, channels ...string) (postbusv1.BusService_SubscribeClient, error) {
	stream, err := postbusv1.NewBusServiceClient(conn).Subscribe(ctx, &postbusv1.SubscribeRequest{Channels: channels})
	if err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}
