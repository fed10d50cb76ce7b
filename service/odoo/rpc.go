package odoo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

// maxIDBytes bounds the id of a request, which is kept for as long as a poll waits.
const maxIDBytes = 255

// params are the parameters of a request by name.
type params map[string]json.RawMessage

// A method answers a request with the JSON of its result; nil: there is no such member.
type method func(ctx context.Context, p params) (result []byte, err error)

// rpc serves a JSON-RPC request, whatever its HTTP method.
func (h *Handler) rpc(answer method) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, p, done, ok := h.readRPC(w, r)
		if !ok {
			return
		}
		defer done()
		result, err := answer(r.Context(), p)
		h.answer(w, r, id, result, err)
	}
}

// readRPC reads a request. What is none is refused with a status of its own, since there is
// no id to answer. done gives back what the request holds.
func (h *Handler) readRPC(w http.ResponseWriter, r *http.Request) (id json.RawMessage, p params, done func(), ok bool) {
	body, done, err := h.core.Receive(w, r)
	if err != nil {
		h.core.Refuse(w, r, err)
		return nil, nil, nil, false
	}
	if id, p, err = readEnvelope(body); err != nil {
		done()
		h.core.Refuse(w, r, err)
		return nil, nil, nil, false
	}
	return id, p, done, true
}

// answer answers a request that was read.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, id json.RawMessage, result []byte, err error) {
	out := make([]byte, 0, len(id)+len(result)+40)
	out = append(out, `{"jsonrpc":"2.0","id":`...)
	out = append(out, id...)
	status := http.StatusOK
	if err != nil {
		result, status = h.faultJSON(r, err)
		out = append(out, `,"error":`...)
	} else if result != nil {
		out = append(out, `,"result":`...)
	}
	out = append(out, result...)
	writeJSON(w, status, append(out, '}'))
}

// readEnvelope reads a request. Its id is to come back as it is. The bytes are not body's.
func readEnvelope(body []byte) (id json.RawMessage, p params, err error) {
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
		if json.Unmarshal(raw, &p) != nil || p == nil {
			return nil, nil, bus.Invalid(bus.InvalidField, "params", "%s, must be an object", jsonform.KindOf(raw))
		}
	}
	if id = envelope["id"]; id == nil {
		id = json.RawMessage("null")
	}
	if len(id) > maxIDBytes {
		return nil, nil, bus.Invalid(bus.InvalidField, "id", "%d bytes, at most %d", len(id), maxIDBytes)
	}
	return id, p, nil
}

// faultJSON returns the JSON of a JSON-RPC error, and the HTTP status that goes with it.
// Its arguments are always an array: Odoo's clients look into it, and stop polling for
// ever when it is missing.
func (h *Handler) faultJSON(r *http.Request, err error) (text []byte, status int) {
	reason, message := h.core.Fault(r.Context(), r.URL.Path, err)
	raised := (*exception)(nil)
	if !errors.As(err, &raised) {
		raised = &exception{kind: "postbus." + reason, message: message}
	}
	type data struct {
		Name      string   `json:"name"`
		Debug     string   `json:"debug"`
		Message   string   `json:"message"`
		Arguments []string `json:"arguments"`
		Context   struct{} `json:"context"`
	}
	fault := struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    data   `json:"data"`
		Status  int    `json:"http_status,omitempty"`
	}{Code: 200, Message: "Odoo Server Error",
		Data: data{Name: raised.kind, Message: raised.message, Arguments: []string{raised.message}}}
	status = http.StatusOK
	switch raised.kind {
	case kindSessionExpired:
		fault.Code, fault.Message = 100, "Odoo Session Expired"
	case kindNotFound:
		status = http.StatusNotFound
		fault.Code, fault.Message, fault.Status = status, "404: Not Found", status
	}
	var out bytes.Buffer
	_ = json.NewEncoder(&out).Encode(fault) // strings into memory: it cannot fail
	return bytes.TrimSpace(out.Bytes()), status
}
