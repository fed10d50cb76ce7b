package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
)

// An exchange is one unary JSON request on its way through the gateway. It carries what
// the generated code would lose: the typed error of reading a request, of which that keeps
// only the text, and a poll's shared notifications, each with its JSON, which a protobuf
// response would copy.
type exchange struct {
	request *http.Request   // as the client sent it
	in      *incoming       // what it asks for
	unread  error           // why it could not be read
	batch   *dispatch.Batch // the answer of a poll
	waiting *polling        // a poll that has none yet, to be answered behind the gateway
}

type exchangeKey struct{}

// exchangeBody is the body of the request that the gateway sees, by which its decoder
// finds the exchange.
type exchangeBody struct {
	io.ReadCloser
	exchange *exchange
}

// newGateway returns the gateway of the unary routes, in this process. A request must
// have passed gate.
func (s *Service) newGateway() (*runtime.ServeMux, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonForm{reader: jsonReader{&s.limits}}),
		runtime.WithErrorHandler(s.gatewayError),
		runtime.WithRoutingErrorHandler(s.gatewayRoutingError),
		runtime.WithForwardResponseRewriter(func(ctx context.Context, resp proto.Message) (any, error) {
			if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok && x.batch != nil {
				return x.batch, nil
			}
			return resp, nil
		}),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	if err := postbusv1.RegisterBusServiceHandlerServer(context.Background(), mux, inProcess{s: s}); err != nil {
		return nil, fmt.Errorf("register the gateway: %w", err)
	}
	return mux, nil
}

// throughGateway answers a request, unless it returns a poll that waits.
func throughGateway(mux *runtime.ServeMux, w http.ResponseWriter, r *http.Request, in *incoming) *polling {
	x := &exchange{request: r, in: in}
	// The query of a GET has become a body, and of headers nothing is left to be read: the
	// gateway would make metadata of them, at some cost, as it would of a context that ends.
	plain := http.Request{Method: http.MethodPost, URL: r.URL, Header: http.Header{}, Body: exchangeBody{http.NoBody, x}}
	w.Header()["Cache-Control"] = noStore
	mux.ServeHTTP(w, plain.WithContext(context.WithValue(context.Background(), exchangeKey{}, x)))
	return x.waiting
}

func (s *Service) gatewayError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		if x.waiting != nil {
			return // its answer comes later
		}
		if x.unread != nil {
			err = x.unread
		}
		r = x.request
	}
	s.refuseHTTP(w, r, err)
}

func (s *Service) gatewayRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
	s.refuseHTTP(w, r, errNotFound(r.URL.Path))
}

// inProcess is the service as the gateway calls it, under the context of an exchange; the
// client's is the request's.
type inProcess struct {
	postbusv1.UnimplementedBusServiceServer
	s *Service
}

var errNoExchange = errors.New("call without an exchange")

// Send implements BusServiceServer.
func (p inProcess) Send(ctx context.Context, req *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errNoExchange
	}
	return p.s.Send(x.request.Context(), req)
}

var errWaiting = errors.New("the poll has no answer yet")

// Poll implements BusServiceServer. The answer is in the exchange; without one the poll is,
// and errWaiting takes the gateway's frames off the stack on which it waits.
func (p inProcess) Poll(ctx context.Context, req *postbusv1.PollRequest) (*postbusv1.PollResponse, error) {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errNoExchange
	}
	opened, err := p.s.openRequested(x.request.Context(), req)
	switch {
	case err != nil:
		return nil, err
	case opened.answered:
		opened.close()
		x.batch = &opened.batch
		return new(postbusv1.PollResponse), nil
	}
	x.waiting = opened
	return nil, errWaiting
}

// jsonForm is the gateway's marshaler: not protojson, but the form that openapi.json
// describes.
type jsonForm struct{ reader jsonReader }

// Marshal writes a response.
func (f jsonForm) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case *dispatch.Batch:
		return appendLine(nil, *v), nil
	case *postbusv1.SendResponse:
		return append(appendResults(nil, v), '\n'), nil
	}
	return nil, fmt.Errorf("no JSON form of %T", v)
}

// Unmarshal reads a request.
func (f jsonForm) Unmarshal(data []byte, v any) error {
	switch v := v.(type) {
	case *postbusv1.SendRequest:
		return f.reader.send(data, v)
	case *postbusv1.PollRequest:
		return f.reader.poll(data, v)
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
