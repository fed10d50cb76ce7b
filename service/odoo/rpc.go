package odoo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/bus"
)

// maxIDBytes bounds the id of a request, which is kept for as long as a poll waits.
const maxIDBytes = 255

// A params holds the parameters of a request by name.
type params map[string]json.RawMessage

// A method answers one request with the JSON of its result; nil: without a result.
type method func(ctx context.Context, p params) (result []byte, err error)

// rpc serves a JSON-RPC request, whatever its HTTP method.
func (h *Handler) rpc(answer method) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, p, err := h.readRPC(w, r)
		if err != nil {
			h.core.Refuse(w, r, err)
			return
		}
		out := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
		if result, err := answer(r.Context(), p); err != nil {
			out = append(out, `,"error":`...)
			out = append(out, h.faultJSON(r, err)...)
		} else {
			out = append(out, `,"result":`...)
			out = append(out, result...)
		}
		header := w.Header()
		header.Set("Content-Type", "application/json")
		header.Set("Cache-Control", "no-store")
		_, _ = w.Write(append(out, '}')) // nobody to tell if the caller is gone
	}
}

// readRPC reads the envelope. Its id comes back as it is.
func (h *Handler) readRPC(w http.ResponseWriter, r *http.Request) (id json.RawMessage, p params, err error) {
	body, done, err := h.core.Receive(w, r)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	return readEnvelope(body)
}

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
			return nil, nil, bus.Invalid(bus.InvalidField, "params", "%s, must be an object", kindOf(raw))
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

func kindOf(raw json.RawMessage) string {
	switch pythonType(raw) {
	case "list":
		return "an array"
	case "dict":
		return "an object"
	case "str":
		return "a string"
	case "bool":
		return "a boolean"
	case "NoneType":
		return "null"
	}
	return "a number"
}

// faultJSON returns the JSON of a JSON-RPC error. Its arguments are always an array:
// Odoo's clients look into it, and stop polling for ever when it is missing.
func (h *Handler) faultJSON(r *http.Request, err error) []byte {
	reason, message := h.core.Fault(r.Context(), r.URL.Path, err)
	name := "postbus." + reason
	if raised := (*exception)(nil); errors.As(err, &raised) {
		name, message = raised.name, raised.message
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
	}{200, "Odoo Server Error", data{Name: name, Message: message, Arguments: []string{message}}})
	return bytes.TrimSpace(out.Bytes())
}
