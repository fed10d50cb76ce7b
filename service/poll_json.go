package service

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"time"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
)

// servePoll is Poll by JSON: past the gateway, below whose frames a poll that waits would
// keep a stack of 16 KB, and whose answer would have to be a copy of what is shared. What
// comes is written by a courier, once made for all polls that are given the same; a client
// that does not read it delays nobody (TestStalledLongPollDelaysNobody).
func (s *Service) servePoll(w http.ResponseWriter, r *http.Request, in *incoming) (*pause, error) {
	var req postbusv1.PollRequest
	err := in.read(func(data []byte) error { return jsonReader{&s.limits}.poll(data, &req) })
	if err != nil {
		return nil, err
	}
	read, err := s.readingOf(&req)
	if err != nil {
		return nil, err
	}
	p, err := s.openPoll(r.Context(), read, notEmpty)
	if err != nil {
		return nil, err
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
	h.Set("Content-Type", jsonType)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	_, err := w.Write(text) // nobody to tell if the caller is gone
	if err == nil && r.ProtoMajor == 1 {
		_ = http.NewResponseController(w).Flush()
	}
}
