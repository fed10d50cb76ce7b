package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// An exchange is one JSON request on its way through the gateway. It carries what the
// generated code would lose: the typed error of reading a request, of which that keeps
// only the text.
type exchange struct {
	in     *incoming // the request
	unread error     // why it could not be read
}

type exchangeKey struct{}

// exchangeBody is the body of the request that the gateway sees, by which its decoder
// finds the exchange.
type exchangeBody struct {
	io.ReadCloser
	exchange *exchange
}

// newGateway returns the gateway of Send, in this process. A request must have passed gate.
func (s *Service) newGateway() (*runtime.ServeMux, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonForm{reader: jsonReader{&s.limits}}),
		runtime.WithErrorHandler(s.gatewayError),
		runtime.WithRoutingErrorHandler(s.gatewayRoutingError),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	if err := postbusv1.RegisterBusServiceHandlerServer(context.Background(), mux, s); err != nil {
		return nil, fmt.Errorf("register the gateway: %w", err)
	}
	return mux, nil
}

// throughGateway answers a request.
func throughGateway(mux *runtime.ServeMux, w http.ResponseWriter, r *http.Request, in *incoming) {
	x := &exchange{in: in}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	r.Body = exchangeBody{http.NoBody, x}
	w.Header().Set("Cache-Control", "no-store")
	mux.ServeHTTP(w, r)
}

func (s *Service) gatewayError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok && x.unread != nil {
		err = x.unread
	}
	s.refuseHTTP(w, r, err)
}

func (s *Service) gatewayRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
	s.refuseHTTP(w, r, errNotFound(r.URL.Path))
}

// jsonForm is the gateway's marshaler: not protojson, but the form that openapi.json
// describes.
type jsonForm struct{ reader jsonReader }

// Marshal writes a response.
func (f jsonForm) Marshal(v any) ([]byte, error) {
	if v, ok := v.(*postbusv1.SendResponse); ok {
		return append(appendResults(nil, v), '\n'), nil
	}
	return nil, fmt.Errorf("no JSON form of %T", v)
}

// Unmarshal reads a request.
func (f jsonForm) Unmarshal(data []byte, v any) error {
	if v, ok := v.(*postbusv1.SendRequest); ok {
		return f.reader.send(data, v)
	}
	return fmt.Errorf("no JSON form of %T", v)
}

// NewDecoder returns a decoder of the exchange's body.
func (f jsonForm) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, ok := r.(exchangeBody)
		if !ok {
			return errors.New("request without an exchange")
		}
		body.exchange.unread = body.exchange.in.read(func(data []byte) error { return f.Unmarshal(data, v) })
		return body.exchange.unread
	})
}

// NewEncoder returns an encoder of responses.
func (f jsonForm) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := f.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}

// ContentType returns application/json.
func (f jsonForm) ContentType(any) string { return jsonType }
