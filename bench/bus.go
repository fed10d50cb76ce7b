//go:build unix

package main

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// dial returns a connection to a gRPC server on this machine, with gRPC's defaults.
func dial(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// payload is a JSON text of 200 bytes.
func payload() string {
	return `{"order": 7, "text": "` + strings.Repeat("x", 200-24) + `"}`
}

// sendBurst sends size messages in one call.
func sendBurst(ctx context.Context, bus postbusv1.BusServiceClient, channel string, size int) error {
	request := &postbusv1.SendRequest{Messages: make([]*postbusv1.Message, size)}
	for i := range request.Messages {
		request.Messages[i] = &postbusv1.Message{Channel: channel, Body: &postbusv1.Message_Json{Json: payload()}}
	}
	_, err := bus.Send(ctx, request)
	return err
}
