package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// Odoo's long-poll as its versions 13 to 15 speak it, answered in the shape of 15. It is
// an adapter of poll of its own, not an envelope around the JSON route: its cursor
// knows "the last 50 seconds", its answers have another shape, and a gap, for which it
// has no place, must not end the wait, since its clients ask again without a pause.
const (
	odooPath   = "/longpolling/poll"
	odooWait   = 50 * time.Second
	odooRecent = 50 * time.Second // what a client that knows nothing is given
	odooIDMost = 255              // bytes of a request's id
)

// odooNobody is what a client without channels reads: nobody can send to a reserved
// channel, and so it waits as Odoo's own server has it wait, drained and counted
// like every other.
const odooNobody = bus.ReservedChannels + "nobody"

// serveOdoo answers a JSON-RPC request, whatever its method, from any origin.
func (s *Service) serveOdoo(w http.ResponseWriter, r *http.Request) (*pause, error) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "POST")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Max-Age", "86400")
		h.Set("Access-Control-Allow-Headers", "Origin, X-Requested-With, Content-Type, Accept, Authorization")
		return nil, nil
	}
	id, raw, err := s.readOdoo(w, r)
	if err != nil {
		return nil, err
	}
	end := func(result []byte, err error) {
		answer := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
		if err != nil {
			answer = append(answer, `,"error":`...)
			answer = append(answer, s.odooFault(r, err)...)
		} else {
			answer = append(answer, `,"result":`...)
			answer = append(answer, result...)
		}
		writeAnswer(w, r, append(answer, '}'))
	}
	params, p, err := s.openOdoo(r.Context(), raw)
	if err != nil {
		end(nil, err)
		return nil, nil
	}
	return &pause{
		wait: func() error { return p.await(r.Context()) },
		end: func(err error) error {
			end(appendOdooResult(nil, params, p.batch.Notifications), err)
			return nil
		},
	}, nil
}

// readOdoo reads the envelope. Its id comes back as it is.
func (s *Service) readOdoo(w http.ResponseWriter, r *http.Request) (id json.RawMessage, params map[string]json.RawMessage, err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != jsonType && kind != "application/json-rpc" {
		return nil, nil, &fault{code: codes.InvalidArgument, reason: ReasonUnsupportedMediaType,
			message: "Content-Type must be application/json or application/json-rpc"}
	}
	in, err := s.receive(w, r)
	if err != nil {
		return nil, nil, err
	}
	defer in.release()
	body, err := in.body(w, r)
	if err != nil {
		return nil, nil, err
	}
	if !utf8.Valid(body) {
		return nil, nil, bus.Invalid(bus.MalformedJSON, "", "the body is not valid UTF-8")
	}
	if !json.Valid(body) {
		return nil, nil, bus.Invalid(bus.MalformedJSON, "", "the body is not JSON: %s", bus.JSONFault(body))
	}
	var envelope map[string]json.RawMessage
	if json.Unmarshal(body, &envelope) != nil || envelope == nil {
		return nil, nil, bus.Invalid(bus.InvalidField, "body", "must be an object")
	}
	if raw, ok := envelope["params"]; ok {
		if json.Unmarshal(raw, &params) != nil || params == nil {
			return nil, nil, bus.Invalid(bus.InvalidField, "params", "%s, must be an object", kindOfRaw(raw))
		}
	}
	if id = envelope["id"]; id == nil {
		id = json.RawMessage("null")
	}
	if len(id) > odooIDMost { // it is kept for as long as the poll waits
		return nil, nil, bus.Invalid(bus.InvalidField, "id", "%d bytes, at most %d", len(id), odooIDMost)
	}
	return id, params, nil
}

// openOdoo checks and opens a poll.
func (s *Service) openOdoo(ctx context.Context, raw map[string]json.RawMessage) (odooParams, *polling, error) {
	params, err := odooParamsOf(raw)
	if err != nil {
		return params, nil, err
	}
	read := reading{channels: []string{odooNobody}, after: params.after, max: maxPollMax, wait: odooWait}
	if len(params.channels) > 0 {
		if vs := s.limits.CheckChannels("channels", params.channels); len(vs) > 0 {
			return params, nil, &bus.InvalidError{Reason: bus.InvalidField, Violations: vs}
		}
		read.channels = unique(params.channels)
	}
	if params.peek {
		read.wait = 0
	}
	if params.recent && s.opts.Recent != nil {
		after, err := s.opts.Recent.IDBefore(ctx, odooRecent)
		if err != nil {
			return params, nil, err
		}
		read.after = &after
	}
	p, err := s.openPoll(ctx, read, func(b dispatch.Batch) bool { return len(b.Notifications) > 0 })
	return params, p, err
}

// appendOdooResult appends the result that p asks for.
func appendOdooResult(dst []byte, p odooParams, ns []*bus.Notification) []byte {
	if !p.peek {
		return appendOdoo(dst, ns)
	}
	dst = append(dst, `{"notifications":`...)
	dst = appendOdoo(dst, ns)
	dst = append(dst, `,"channels":[`...)
	for i, channel := range p.channels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, channel)
	}
	return append(dst, `]}`...)
}

// appendOdoo appends notifications in the shape of Odoo 15.
func appendOdoo(dst []byte, ns []*bus.Notification) []byte {
	dst = append(dst, '[')
	for i, n := range ns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":`...)
		dst = strconv.AppendInt(dst, int64(n.ID), 10)
		dst = append(dst, `,"message":{"type":`...)
		dst = appendString(dst, n.Type)
		dst = append(dst, `,"payload":`...)
		if n.Binary != nil {
			dst = appendBinary(dst, n.Binary)
		} else {
			dst = appendPayload(dst, n.JSON)
		}
		dst = append(dst, `}}`...)
	}
	return append(dst, ']')
}

// odooFault returns the JSON of a JSON-RPC error. Its arguments are always an array:
// Odoo's clients look into it, and stop polling for ever when it is missing.
func (s *Service) odooFault(r *http.Request, err error) []byte {
	var raised *odooError
	if !errors.As(err, &raised) {
		f := s.refuse(r.Context(), odooPath, err)
		raised = &odooError{name: "postbus." + f.reason, message: f.message}
	} else {
		s.counts.faults[ReasonInvalidField].Add(1)
	}
	type data struct {
		Name      string   `json:"name"`
		Debug     string   `json:"debug"`
		Message   string   `json:"message"`
		Arguments []string `json:"arguments"`
		Context   struct{} `json:"context"`
	}
	var out bytes.Buffer
	_ = json.NewEncoder(&out).Encode(struct { // strings into memory: it cannot fail
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    data   `json:"data"`
	}{200, "Odoo Server Error", data{Name: raised.name, Message: raised.message, Arguments: []string{raised.message}}})
	return bytes.TrimSpace(out.Bytes())
}
