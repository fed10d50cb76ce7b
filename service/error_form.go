package service

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// errorDomain is ErrorInfo.domain of every error of ours.
const errorDomain = "postbus"

// GRPCStatus returns f as gRPC clients see it: ErrorInfo always, BadRequest and
// RetryInfo when there is something to say.
func (f *fault) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: errorDomain, Reason: f.reason}}
	if len(f.violations) > 0 {
		bad := new(errdetails.BadRequest)
		for _, v := range f.violations {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Fault})
		}
		details = append(details, bad)
	}
	if f.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.retry)})
	}
	plain := status.New(f.code, f.message)
	full, err := plain.WithDetails(details...)
	if err != nil {
		return plain
	}
	return full
}

// The JSON form of an error, shared by every HTTP transport.
type (
	errorJSON struct {
		Error errorBody `json:"error"`
	}
	errorBody struct {
		Code    int           `json:"code"`
		Status  string        `json:"status"`
		Reason  string        `json:"reason"`
		Message string        `json:"message"`
		Details []errorDetail `json:"details"`
		Request *string       `json:"request,omitempty"` // of a WebSocket's frame
	}
	errorDetail struct {
		Type       string           `json:"@type"`
		Domain     string           `json:"domain,omitempty"`
		Reason     string           `json:"reason,omitempty"`
		Violations []errorViolation `json:"field_violations,omitempty"`
		RetryDelay string           `json:"retry_delay,omitempty"`
	}
	errorViolation struct {
		Field       string `json:"field"`
		Description string `json:"description"`
	}
)

// appendJSON appends the JSON form of f to dst.
func (f *fault) appendJSON(dst []byte) []byte { return f.appendAnswer(dst, nil) }

// appendAnswer appends the JSON form of f as the answer to a frame; nil is none.
func (f *fault) appendAnswer(dst []byte, request *string) []byte {
	const types = "type.googleapis.com/google.rpc."
	details := []errorDetail{{Type: types + "ErrorInfo", Domain: errorDomain, Reason: f.reason}}
	if len(f.violations) > 0 {
		bad := errorDetail{Type: types + "BadRequest"}
		for _, v := range f.violations {
			bad.Violations = append(bad.Violations, errorViolation{v.Field, v.Fault})
		}
		details = append(details, bad)
	}
	if f.retry > 0 {
		details = append(details, errorDetail{Type: types + "RetryInfo", RetryDelay: formatDuration(f.retry)})
	}
	form, err := json.Marshal(errorJSON{errorBody{
		Code: int(f.code), Status: code.Code(f.code).String(), Reason: f.reason, Message: f.message, Details: details, Request: request,
	}})
	if err != nil { // impossible: strings and numbers only
		form = []byte(`{"error":{"code":13,"status":"INTERNAL","reason":"INTERNAL","message":"` + internalSentence + `","details":[]}}`)
	}
	return append(dst, form...)
}

// httpStatus returns the HTTP status of f.
func (f *fault) httpStatus() int {
	if f.http != 0 {
		return f.http
	}
	return runtime.HTTPStatusFromCode(f.code)
}

// write answers an HTTP request with f.
func (f *fault) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Cache-Control", "no-store")
	if f.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retry.Seconds()))))
	}
	if f.allow != "" {
		h.Set("Allow", f.allow)
	}
	w.WriteHeader(f.httpStatus())
	_, _ = w.Write(append(f.appendJSON(nil), '\n')) // nobody to tell if the caller is gone
}

// formatDuration returns d in the JSON form, "1.5s".
func formatDuration(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
