package service

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
)

// GRPCServer returns a gRPC server that serves BusService, server reflection and
// grpc.health.v1. opts are added to the service's own and win over them.
//
// A peer that does not answer a ping within 30 s, sent after 30 s of silence, is ended;
// clients may ping every 10 s, without a stream too. There is no limit of streams for
// each connection, since gRPC would queue above it in silence: admit refuses.
func (s *Service) GRPCServer(opts ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 30 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             9 * time.Second, // clients that ping every 10 s are not always punctual
			PermitWithoutStream: true,
		}),
		grpc.MaxRecvMsgSize(wireFactor * s.limits.MaxRequest),
		grpc.MaxHeaderListSize(uint32(s.opts.MaxHeaderBytes)),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(s.headerTimeout()),
		grpc.ForceServerCodecV2(arrivalCodec{newFrameCodec()}),
	}, opts...)...)
	desc := postbusv1.BusService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == "Poll" {
			desc.Methods[i].Handler = s.pollFrame
		}
	}
	desc.Streams = []grpc.StreamDesc{{StreamName: "Subscribe", Handler: s.subscribe, ServerStreams: true}}
	guarded := admitting{server, s}
	guarded.RegisterService(&desc, s)
	healthv1.RegisterHealthServer(guarded, watchedHealth{Server: s.health, draining: s.draining})
	reflection.Register(guarded)
	return server
}

// maxBytes bounds the body of a JSON request, above the limit of what it may hold:
// escapes and base64 take room that does not count.
func (s *Service) maxBytes() int64 { return 2*int64(s.limits.MaxRequest) + 64<<10 }

// SetHealthy says whether grpc.health.v1 reports the node, and BusService, as serving.
func (s *Service) SetHealthy(healthy bool) {
	state := healthv1.HealthCheckResponse_NOT_SERVING
	if healthy {
		state = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
	s.health.SetServingStatus(postbusv1.BusService_ServiceDesc.ServiceName, state)
}

// Drain makes grpc.health.v1 report NOT_SERVING for good, and ends its watches, which
// never end by themselves and would hold up a graceful stop
// (TestSIGTERMGivesEveryStreamItsLastAndEveryPollItsAnswer). It ends the sockets of
// Odoo's protocol, with code 1001.
func (s *Service) Drain() {
	s.health.Shutdown()
	s.drain()
	s.odoo.Drain()
}

// A watchedHealth is a health server whose watches end with draining.
type watchedHealth struct {
	*health.Server
	draining context.Context
}

// Watch implements HealthServer.
func (h watchedHealth) Watch(req *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.draining, cancel)()
	err := h.Server.Watch(req, watch{stream, ctx})
	if h.draining.Err() == nil || stream.Context().Err() != nil {
		return err
	}
	// The end may have overtaken the news.
	if err := stream.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}); err != nil {
		return err
	}
	return faultOf(bus.ErrDraining)
}

// A watch is a stream with a context of its own.
type watch struct {
	healthv1.Health_WatchServer
	ctx context.Context
}

// Context returns the context of the watch.
func (w watch) Context() context.Context { return w.ctx }
