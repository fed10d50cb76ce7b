package service

import (
	"context"
	"hash/maphash"
	"net/http"
	"strconv"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
)

// serveUnary is Send and Poll by JSON, which the gateway translates. A poll that waits does so
// behind it, since below the gateway's frames it would keep a stack of 16 KB; and what comes is
// written by a courier, made once for all polls that are given the same; a client that does
// not read it delays nobody (TestStalledLongPollDelaysNobody).
func (s *Service) serveUnary(gateway *runtime.ServeMux, w http.ResponseWriter, r *http.Request, in *incoming) (*pause, error) {
	p := throughGateway(gateway, w, r, in)
	if p == nil {
		sendOff(w, r)
		return nil, nil
	}
	out := newOutlet(w)
	to := dispatch.Carrier{
		Peer: maphash.String(s.peers, r.RemoteAddr),
		Carry: func(b *dispatch.Batch) error {
			p.makeRoom()
			p.counts.pollsAnswered.Add(1)
			writeAnswer(w, r, textOf(b, formLine, appendLine))
			return errAnswered
		},
	}
	released := false
	to.Release = func() {
		released = true
		out.until(time.Now().Add(lingerTime))
	}
	return &pause{
		wait: func() error {
			err := p.ride(r.Context(), to)
			if released {
				out.until(time.Time{}) // the connection may have another request
			}
			return err
		},
		end: func(err error) error {
			if err == nil {
				writeAnswer(w, r, appendLine(nil, p.batch))
			}
			return err
		},
	}, nil
}

// writeAnswer answers with JSON, and sends it off: what net/http does at the end of a
// request needs a deep stack for the headers.
func writeAnswer(w http.ResponseWriter, r *http.Request, text []byte) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = jsonTypes, noStore
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	if _, err := w.Write(text); err == nil { // nobody to tell if the caller is gone
		sendOff(w, r)
	}
}

// sendOff sends off what was answered.
func sendOff(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		_ = http.NewResponseController(w).Flush()
	}
}

// openRequested opens the poll that req asks for.
func (s *Service) openRequested(ctx context.Context, req *postbusv1.PollRequest) (p *polling, err error) {
	defer s.finish(ctx, "Poll", &err)
	read, err := s.readingOf(req)
	if err != nil {
		return nil, err
	}
	return s.openPoll(ctx, read, notEmpty)
}
