package service

import (
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
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
			call := to.(*admitted)
			return call.aside(func() error {
				answer, err := unary.Handler(srv, to.Context(), call.read, nil)
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

	ended chan outcome // of aside
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

// aside calls f, which may read the call's message, on a hand, and waits for it, or for the
// refusal of the message: only the end of a call ends gRPC's reading of it, and a call ends
// with its handler.
func (a *admitted) aside(f func() error) error {
	a.ended = make(chan outcome, 2) // f's and the refusal
	a.service.hands.begin(task{f, a.ended})
	o := <-a.ended
	a.ended = nil // a stream may stay for days
	return o.result()
}

// RecvMsg reads the call's message: within ReceiveTimeout, and within MaxRequestBytes
// once it takes longer than a moment.
func (a *admitted) RecvMsg(m any) error {
	return a.aside(func() error { return a.read(m) })
}

// read is RecvMsg on the hand of aside.
func (a *admitted) read(m any) error {
	in := &arrival{call: a, message: m, most: a.service.limits.MaxRequest + 64<<10}
	in.begin()
	err := a.ServerStream.RecvMsg(in)
	if refusal := in.end(); refusal != nil {
		return refusal // the call has ended
	}
	if !a.keep {
		a.release()
	}
	switch err = unread(err); {
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
