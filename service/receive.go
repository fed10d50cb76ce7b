package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
)

// A request costs memory before it can be looked at. What holds it down is the same for
// every call: one connection in the door, one of MaxRequests until it has come whole,
// and, if that takes longer than a moment, its bytes from MaxRequestBytes as they come.

const (
	// A gRPC message is read up to four times what a Send may hold, so that its refusal
	// has our details; above that gRPC refuses it without.
	wireFactor = 4
	// receiveTick is how long a request may take to come before its bytes are counted,
	// and how often they are counted from then on. What has not been counted is
	// bounded by what the network brings in this time.
	receiveTick = 100 * time.Millisecond
	// The windows of HTTP/2, in which a client may be ahead of the reading.
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20
)

// An admitting server registers services whose every call passes admit, before its message
// is read: unary methods become streams of one message each way, which look the same on
// the wire.
type admitting struct {
	*grpc.Server
	service *Service
}

// RegisterService implements grpc.ServiceRegistrar.
func (a admitting) RegisterService(of *grpc.ServiceDesc, impl any) {
	desc := *of
	desc.Methods, desc.Streams = nil, nil
	add := func(stream grpc.StreamDesc) {
		handler, method := stream.Handler, "/"+desc.ServiceName+"/"+stream.StreamName
		stream.Handler = func(srv any, to grpc.ServerStream) error {
			call, err := a.service.admit(to, method) // returns before the handler is called: a stream keeps its stack
			if err != nil {
				return err
			}
			defer call.end()
			return handler(srv, call)
		}
		desc.Streams = append(desc.Streams, stream)
	}
	for _, unary := range of.Methods {
		add(grpc.StreamDesc{StreamName: unary.MethodName, Handler: func(srv any, to grpc.ServerStream) error {
			return a.service.hands.aside(func() error {
				answer, err := unary.Handler(srv, to.Context(), to.RecvMsg, nil)
				if err != nil {
					return err
				}
				return to.SendMsg(answer)
			})
		}})
	}
	for _, stream := range of.Streams {
		add(stream)
	}
	a.Server.RegisterService(&desc, impl)
}

// admit begins every call, which must be ended.
func (s *Service) admit(stream grpc.ServerStream, method string) (*admitted, error) {
	ctx := stream.Context()
	from, _ := peer.FromContext(ctx)
	guest := guestOf(from.Addr)
	if guest != nil && !guest.admitted() {
		return nil, s.refuse(ctx, method, guest.noRoom())
	}
	if !s.requests.take(1) {
		return nil, s.refuse(ctx, method, s.errTooManyRequests())
	}
	a := &admitted{ServerStream: stream, service: s, guest: guest, keep: method == postbusv1.BusService_Send_FullMethodName, held: true}
	if !strings.HasPrefix(method, "/"+postbusv1.BusService_ServiceDesc.ServiceName+"/") {
		// Watches and reflection stay, and count as readers.
		if err := s.enter(&s.counts.watches); err != nil {
			a.release()
			return nil, s.refuse(ctx, method, err)
		}
		a.watches = true
	}
	return a, nil
}

// An admitted is a call that holds one of MaxRequests: until its message has come, or,
// of a Send, until it is answered.
type admitted struct {
	grpc.ServerStream
	service *Service
	guest   *guest
	keep    bool
	held    bool
	watches bool // counted as a reader
}

func (a *admitted) end() {
	a.release()
	if a.watches {
		a.service.leave(&a.service.counts.watches)
	}
}

func (a *admitted) release() {
	if a.held {
		a.held = false
		a.service.requests.give(1)
	}
}

// RecvMsg reads the call's message: within ReceiveTimeout, and within MaxRequestBytes
// once it takes longer than a moment.
func (a *admitted) RecvMsg(m any) error {
	in := &arrival{message: m, most: a.service.limits.MaxRequest + 64<<10}
	// On a goroutine of its own, since only the end of the call ends the reading.
	came := make(chan error, 1)
	a.service.hands.do(func() { came <- a.ServerStream.RecvMsg(in) })
	err := a.await(came)
	if !a.keep {
		a.release()
	}
	switch {
	case errors.Is(err, io.EOF):
		return err
	case err != nil:
	case in.size > in.most:
		err = bus.Invalid(bus.TooLarge, "request", "%d bytes, at most %d", in.size, in.most)
	case in.err != nil:
		err = bus.Invalid(bus.InvalidField, "request", "not a message of protobuf: %v", in.err)
	default:
		return nil
	}
	return a.service.refuse(a.Context(), "RecvMsg", err)
}

// await waits for a message that is being read.
func (a *admitted) await(came <-chan error) error {
	s := a.service
	timer := time.NewTimer(receiveTick)
	defer timer.Stop()
	var counted, before int64
	if a.guest != nil {
		a.guest.receiving.Add(1)
		defer a.guest.receiving.Add(-1)
		before = a.guest.arrived.Load()
	}
	defer func() { s.requestBytes.give(counted) }()
	for began := time.Now(); ; {
		select {
		case err := <-came:
			return unread(err)
		case <-timer.C:
		}
		if time.Since(began) >= s.opts.ReceiveTimeout {
			return fmt.Errorf("the request did not come within %v: %w", s.opts.ReceiveTimeout, context.DeadlineExceeded)
		}
		more := a.share(before) - counted
		if more > 0 && !s.requestBytes.take(more) {
			return s.errTooManyBytes()
		}
		counted += max(more, 0)
		timer.Reset(receiveTick)
	}
}

// unread returns what a client sees of gRPC's failing to read its message.
func unread(err error) error {
	switch status.Code(err) {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded:
		return err
	}
	if errors.Is(err, io.EOF) {
		return err
	}
	return bus.Invalid(bus.InvalidField, "request", "did not come whole: %s", status.Convert(err).Message())
}

// share returns how many bytes of the message can have come, at most: of what its
// connection has read since, its part among those that are being received on it.
func (a *admitted) share(before int64) int64 {
	most := wireFactor * int64(a.service.limits.MaxRequest)
	if a.guest == nil {
		return most
	}
	return min(most, (a.guest.arrived.Load()-before)/max(a.guest.receiving.Load(), 1))
}

// An arrival is a message as it comes from the wire.
type arrival struct {
	message any
	most    int
	size    int
	err     error
}

// arrivalCodec decodes arrivals. It never fails: gRPC would answer by itself then.
type arrivalCodec struct{ encoding.CodecV2 }

// Unmarshal decodes data into v.
func (c arrivalCodec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*arrival)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if in.size = data.Len(); in.size <= in.most {
		in.err = c.CodecV2.Unmarshal(data, in.message)
	}
	return nil
}
