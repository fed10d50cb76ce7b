package service

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// An incoming is the request of an HTTP client as it comes. It holds one of MaxRequests
// and its bytes of MaxRequestBytes until it is read into the words of the wire, and a
// Send the former until it is answered. Use it from one goroutine.
type incoming struct {
	service *Service
	data    []byte // JSON
	counted int64  // bytes of MaxRequestBytes
	held    bool
	keep    bool // of MaxRequests, after read
}

// receive admits one more request; release ends it.
func (s *Service) receive(w http.ResponseWriter, r *http.Request) (*incoming, error) {
	if !s.requests.take(1) {
		linger(w, r)
		return nil, s.errTooManyRequests()
	}
	return &incoming{service: s, held: true}, nil
}

// read decodes the request, whose bytes are needed no more then.
func (in *incoming) read(decode func(data []byte) error) error {
	defer func() {
		in.data = nil
		in.service.requestBytes.give(in.counted)
		in.counted = 0
		if !in.keep {
			in.release()
		}
	}()
	return decode(in.data)
}

// release gives back what is held; again is nothing.
func (in *incoming) release() {
	in.service.requestBytes.give(in.counted)
	in.counted = 0
	if in.held {
		in.held = false
		in.service.requests.give(1)
	}
}

// body reads the body of r, bounded in bytes, of which each is counted before it is read,
// and in time by the deadline that the handler has set.
func (in *incoming) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var whole bytes.Buffer
	err := in.copy(&whole, http.MaxBytesReader(w, r.Body, in.service.maxBytes()))
	if err == nil {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		return whole.Bytes(), nil
	}
	endConnection(w, r)
	var (
		large *http.MaxBytesError
		known *fault
	)
	if errors.As(err, &large) || errors.As(err, &known) {
		linger(w, r)
		return nil, err
	}
	// A read that fails for want of time ends the context, too.
	if !errors.Is(err, os.ErrDeadlineExceeded) && r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	return nil, bus.Invalid(bus.MalformedJSON, "", "the body did not arrive whole within %v", in.service.opts.ReceiveTimeout)
}

// copy reads from into whole to its end. What is counted is the room of whole.
func (in *incoming) copy(whole *bytes.Buffer, from io.Reader) error {
	for {
		if whole.Available() == 0 {
			// The old room and the new one are there at once for a moment.
			more := int64(max(4<<10, whole.Cap()))
			if !in.service.requestBytes.take(more) {
				return in.service.errTooManyBytes()
			}
			in.counted += more
			whole.Grow(int(more))
		}
		room := whole.AvailableBuffer()
		n, err := from.Read(room[:cap(room)])
		_, _ = whole.Write(room[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// lingerTime bounds how long the rest of a body is read that is refused.
const lingerTime = time.Second

// linger prepares for the end of r's connection: it lets the client send the rest of its
// body, into nothing, because one that still writes when the connection is closed does not
// see the answer.
func linger(w http.ResponseWriter, r *http.Request) {
	endConnection(w, r)
	if r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, r.Body) // as far as it comes
}

// endConnection has the connection end behind the answer, of which the rest of a body
// would have to be read first. In HTTP/2 a body has no such hold on its connection.
func endConnection(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}
