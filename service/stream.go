package service

import (
	"context"
	"hash/maphash"
	"mime"
	"net/http"
	"strings"
	"time"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
)

const subscribePath = "/v1/subscribe"

// serveSubscribe is Subscribe in the form that the client reads.
func (s *Service) serveSubscribe(w http.ResponseWriter, r *http.Request, in *incoming) (*pause, error) {
	switch streamForm(r) {
	case formWebSocket:
		return nil, s.serveWebSocket(w, r, in)
	case formSSE:
		return s.serveEvents(w, r, in)
	}
	return s.serveLines(w, r, in)
}

// streamForm returns the form in which the client of r reads a stream, and the refusal of
// one: formWebSocket when it upgrades, formSSE when its Accept names text/event-stream
// with a q above 0, else formLine. The answers of every other route are one line.
func streamForm(r *http.Request) int {
	switch {
	case r.URL.Path != subscribePath:
		return formLine
	case headerHas(r.Header, "Connection", "upgrade") && headerHas(r.Header, "Upgrade", "websocket"):
		return formWebSocket
	case accepts(r.Header, eventsType):
		return formSSE
	}
	return formLine
}

// accepts reports whether Accept names the media type, and not to exclude it.
func accepts(h http.Header, mediaType string) bool {
	for _, value := range h.Values("Accept") {
		for part := range strings.SplitSeq(value, ",") {
			name, params, _ := mime.ParseMediaType(part)
			q, weighed := params["q"]
			if name == mediaType && (!weighed || strings.Trim(q, "0.") != "") {
				return true
			}
		}
	}
	return false
}

// headerHas reports whether one of the header's comma-separated values is token.
func headerHas(h http.Header, name, token string) bool {
	for _, value := range h.Values(name) {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// readWalking reads the request of a stream.
func (s *Service) readWalking(in *incoming) (walking, error) {
	var req postbusv1.SubscribeRequest
	err := in.read(func(data []byte) error { return jsonReader{&s.limits}.subscribe(data, &req) })
	if err != nil {
		return walking{}, err
	}
	return s.walkingOf(&req)
}

// A body is what a stream's answer consists of.
type body struct {
	mediaType string
	form      int                                       // of a Batch
	opening   func(dst []byte, b dispatch.Batch) []byte // the first one
	batch     func(dst []byte, b dispatch.Batch) []byte
	fault     func(dst []byte, f *fault) []byte
}

// serveStream answers with a stream. Its status and headers go out with the first batch, at
// once; what fails before it is returned, and what fails behind it is told in the
// stream, which ends. A reader that stalls delays nobody else
// (TestStalledHTTPReadersCostOnlyThemselves).
func (s *Service) serveStream(w http.ResponseWriter, r *http.Request, walking walking, of body) (*pause, error) {
	out := newOutlet(w)
	// A server's write timeout is for answers that end.
	out.until(time.Time{})
	unbound := out.endWith(r.Context())
	begun := false
	to := way{
		give: func(b dispatch.Batch) error {
			switch {
			case !begun:
				begun = true
				streamHeaders(w.Header(), of.mediaType)
				return out.write(of.opening(nil, b))
			case b.Empty():
				return s.hands.aside(func() error { return out.write(of.batch(nil, b)) })
			}
			return out.write(of.batch(nil, b))
		},
		carry: func(b *dispatch.Batch) error { return out.write(textOf(b, of.form, of.batch)) },
		peer:  maphash.String(s.peers, r.RemoteAddr),
	}
	end := func(err error) error {
		defer unbound()
		if !begun {
			return err
		}
		_ = out.write(of.fault(nil, s.refuse(r.Context(), r.URL.Path, err))) // the reader may be gone, which is no news
		return nil
	}
	open, err := s.open(r.Context(), walking, to)
	if err != nil {
		if open != nil {
			open.close()
		}
		return nil, end(err)
	}
	return &pause{
		wait: func() error { defer open.close(); return open.run(r.Context()) },
		end:  end,
	}, nil
}

// textOf returns the form of a batch that a courier carries, made once for all who are given
// the same.
func textOf(b *dispatch.Batch, form int, write func(dst []byte, b dispatch.Batch) []byte) []byte {
	text, made := b.Forms[form].([]byte)
	if !made {
		text = write(nil, *b)
		b.Forms[form] = text
	}
	return text
}

// streamHeaders sets the headers of a stream.
func streamHeaders(h http.Header, mediaType string) {
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Add("Vary", "Accept")
}

// An outlet is where a stream's answer goes. One goroutine at a time writes to it, the
// request's own or a courier's.
type outlet struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newOutlet(w http.ResponseWriter) *outlet {
	return &outlet{w: w, control: http.NewResponseController(w)}
}

// write writes text, and sends it off.
func (o *outlet) write(text []byte) error {
	if _, err := o.w.Write(text); err != nil {
		return err
	}
	return o.control.Flush()
}

// until bounds the writes. Who has no deadlines needs none.
func (o *outlet) until(t time.Time) { _ = o.control.SetWriteDeadline(t) }

// endWith lets no write last longer than lingerTime behind the end of ctx: a peer that
// reads no more is no reason to stay. The function that it returns ends that.
func (o *outlet) endWith(ctx context.Context) (end func()) {
	bounded := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		o.until(time.Now().Add(lingerTime))
		close(bounded)
	})
	return func() {
		if !stop() {
			<-bounded
			o.until(time.Time{}) // the connection may have another request
		}
	}
}
