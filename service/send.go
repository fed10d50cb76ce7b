package service

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
)

// Send implements BusServiceServer.
func (s *Service) Send(ctx context.Context, req *postbusv1.SendRequest) (resp *postbusv1.SendResponse, err error) {
	defer s.finish(ctx, "Send", &err)
	messages, err := s.messagesOf(req)
	if err != nil {
		return nil, err
	}
	receipts, err := s.send(ctx, messages)
	if err != nil {
		return nil, err
	}
	results := make([]*postbusv1.SendResult, len(receipts))
	for i, r := range receipts {
		results[i] = &postbusv1.SendResult{Id: int64(r.ID), Duplicate: r.Duplicate}
	}
	return &postbusv1.SendResponse{Results: results}, nil
}

// send stores messages that were checked, and counts them.
func (s *Service) send(ctx context.Context, messages []bus.Message) ([]bus.Receipt, error) {
	receipts, err := s.opts.Writer.Send(ctx, messages)
	if err != nil {
		return nil, err
	}
	s.counts.sends.Add(1)
	s.counts.messages.Add(int64(len(receipts)))
	for _, r := range receipts {
		if r.Duplicate {
			s.counts.duplicates.Add(1)
		}
	}
	return receipts, nil
}

// messagesOf returns the messages of a request, checked.
func (s *Service) messagesOf(req *postbusv1.SendRequest) ([]bus.Message, error) {
	if err := refuseUnknown("request", req); err != nil {
		return nil, err
	}
	messages := make([]bus.Message, len(req.GetMessages()))
	var ttls []bus.Violation
	for i, m := range req.GetMessages() {
		// Only if there is something unknown is a name made for it.
		if hasUnknown(m) || (m.GetTtl() != nil && hasUnknown(m.GetTtl())) {
			return nil, refuseUnknown(fmt.Sprintf("messages[%d]", i), m, m.GetTtl())
		}
		messages[i] = messageOf(m)
		if ttl := m.GetTtl(); ttl != nil && messages[i].TTL <= 0 {
			ttls = append(ttls, bus.Violation{
				Field: fmt.Sprintf("messages[%d].ttl", i), Fault: fmt.Sprintf("%s, must be above 0s", formatDuration(ttl.AsDuration()))})
			messages[i].TTL = 0 // told already
		}
	}
	if invalid := s.limits.CheckSend(messages); invalid != nil {
		return nil, invalid
	}
	if len(ttls) > 0 {
		return nil, &bus.InvalidError{Reason: bus.InvalidField, Violations: ttls[:min(len(ttls), 20)]}
	}
	return messages, nil
}

// messageOf returns the domain's form of m.
func messageOf(m *postbusv1.Message) bus.Message {
	out := bus.Message{
		Channel: m.GetChannel(),
		Type:    m.GetType(),
		Headers: m.GetHeaders(),
		Key:     m.GetKey(),
	}
	if ttl := m.GetTtl(); ttl != nil {
		out.TTL = ttl.AsDuration()
	}
	switch body := m.GetBody().(type) {
	case *postbusv1.Message_Json:
		out.JSON = body.Json
	case *postbusv1.Message_Binary:
		out.Binary = body.Binary
		if out.Binary == nil {
			out.Binary = []byte{}
		}
	default:
		out.JSON = "null"
	}
	return out
}

func hasUnknown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

// refuseUnknown refuses fields that this server does not know, in any of parts, which
// the client wrote as field: a newer client's field is never dropped in silence.
func refuseUnknown(field string, parts ...proto.Message) error {
	for _, part := range parts {
		m := part.ProtoReflect()
		if !m.IsValid() {
			continue
		}
		if unknown := m.GetUnknown(); len(unknown) > 0 {
			number, _, _ := protowire.ConsumeField(unknown)
			return bus.Invalid(bus.UnknownField, field, "field number %d of %s is not known to this server",
				number, m.Descriptor().Name())
		}
	}
	return nil
}
