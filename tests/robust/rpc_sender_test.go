package robust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/tests/robust/history"
)

// A request is one decision of an rpcSender.
type request struct {
	way     string // "grpc" or "json"
	node    int
	letters []letter
	patient time.Duration // how long the sender waits for the answer
	pause   time.Duration // before it
}

// An rpcSender sends as a service does: what is certainly not stored it tries again, what
// is unknown only with a key on every message.
type rpcSender struct {
	*run
	author
}

func (s *rpcSender) decide() request {
	r := request{way: "grpc", node: s.random.IntN(len(s.nodes)), patient: 10 * time.Second, pause: s.habits.pause(s.random)}
	if chance(s.random, 40) {
		r.way = "json"
	}
	if chance(s.random, 5) {
		r.patient = time.Duration(1+s.random.IntN(30)) * time.Millisecond
	}
	if chance(s.random, s.habits.poisoned) {
		r.letters = s.poisoned()
	} else {
		r.letters = s.write()
	}
	return r
}

// work sends until ctx ends.
func (s *rpcSender) work(ctx context.Context) {
	for rest(ctx, 0) {
		r := s.decide()
		if !rest(ctx, r.pause) {
			return
		}
		s.deliver(ctx, r)
	}
}

// deliver sends one request, again and again as far as that is allowed.
func (s *rpcSender) deliver(ctx context.Context, r request) {
	keyed := !slices.ContainsFunc(r.letters, func(l letter) bool { return l.Key == "" })
	for try := range 20 {
		sent := s.try(r, s.nodes[(r.node+try)%len(s.nodes)])
		if sent == nil { // the node is down
			if !rest(ctx, 50*time.Millisecond) {
				return
			}
			continue
		}
		s.record.Send(*sent)
		switch {
		case sent.Outcome == history.Stored:
			return
		case sent.Outcome == history.Unknown && !keyed, sent.Fault == invalidArgument:
			return
		}
		if !rest(ctx, 50*time.Millisecond) {
			return
		}
		r.patient = 10 * time.Second
	}
}

// invalidArgument is the fault of a send that must not be tried again.
const invalidArgument = "INVALID_ARGUMENT"

// try sends once and says what is known then; nil: nobody was asked.
func (s *rpcSender) try(r request, n *node) *history.Send {
	l := n.up()
	if l == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.patient)
	defer cancel()
	sent := &history.Send{Sender: s.name, Way: r.way, Node: n.name, Messages: messagesOf(r.letters), Call: s.record.Now()}
	if r.way == "grpc" {
		sent.Results, sent.Outcome, sent.Fault = sendGRPC(ctx, l, r.letters)
	} else {
		sent.Results, sent.Outcome, sent.Fault = sendJSON(ctx, l, r.letters)
	}
	sent.Return = s.record.Now()
	return sent
}

func sendGRPC(ctx context.Context, l *life, letters []letter) ([]history.Result, history.Outcome, string) {
	in := new(postbusv1.SendRequest)
	for i := range letters {
		in.Messages = append(in.Messages, letters[i].proto())
	}
	out, err := l.bus.Send(ctx, in)
	if err != nil {
		outcome, fault := outcomeOf(status.Code(err), reasonOf(err))
		if fault == "" {
			fault = err.Error()
		}
		return nil, outcome, fault
	}
	results := make([]history.Result, len(out.GetResults()))
	for i, r := range out.GetResults() {
		results[i] = history.Result{ID: r.GetId(), Duplicate: r.GetDuplicate()}
	}
	return results, history.Stored, ""
}

// reasonOf returns the ErrorInfo's reason of an error, "" if it has none of ours.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "postbus" {
			return info.GetReason()
		}
	}
	return ""
}

// outcomeOf is the table "After a failed Send" of docs/guarantees.md.
func outcomeOf(code codes.Code, reason string) (history.Outcome, string) {
	switch {
	case reason == "":
		return history.Unknown, ""
	case code == codes.InvalidArgument:
		return history.Nothing, invalidArgument
	case code == codes.Unavailable, code == codes.ResourceExhausted:
		return history.Nothing, reason
	}
	return history.Unknown, reason
}

func sendJSON(ctx context.Context, l *life, letters []letter) ([]history.Result, history.Outcome, string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.httpURL+"/v1/send", bytes.NewReader(body(letters)))
	if err != nil {
		return nil, history.Nothing, err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.web.Do(request)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" && errors.Is(err, syscall.ECONNREFUSED) {
			return nil, history.Nothing, err.Error()
		}
		return nil, history.Unknown, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, history.Unknown, err.Error()
	}
	var said struct {
		Results []history.Result
		Error   *struct {
			Code   codes.Code
			Reason string
		}
	}
	switch err := json.Unmarshal(text, &said); {
	case err != nil:
		return nil, history.Unknown, err.Error()
	case said.Error != nil:
		outcome, fault := outcomeOf(said.Error.Code, said.Error.Reason)
		return nil, outcome, fault
	}
	return said.Results, history.Stored, ""
}
