package service

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

const (
	eventsType  = "text/event-stream"
	lastEventID = "Last-Event-ID"
)

// serveEvents is Subscribe as server-sent events. Every event but fault has an id that is a
// cursor, so that an EventSource that breaks off goes on by itself, from the first
// moment (TestEventSourceMissesNothingFromTheFirstMoment).
func (s *Service) serveEvents(w http.ResponseWriter, r *http.Request, in *incoming) (*pause, error) {
	walking, err := s.readWalking(in)
	if err != nil {
		return nil, err
	}
	resumed, err := lastEvent(r.Header)
	if err != nil {
		return nil, err
	}
	if resumed != nil { // a browser sends what it began with as well
		walking.after = resumed
	}
	return s.serveStream(w, r, walking, body{
		mediaType: eventsType, form: formSSE, batch: appendEvents, fault: appendFaultEvent,
		opening: func(dst []byte, b dispatch.Batch) []byte { return appendOpening(dst, b, walking.after) },
	})
}

// lastEvent returns the cursor of a client that goes on. A browser that has none sends no
// header, and some clients an empty one.
func lastEvent(h http.Header) (*bus.ID, error) {
	values := h.Values(lastEventID)
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return nil, nil
	}
	if len(values) > 1 {
		return nil, bus.Invalid(bus.InvalidField, lastEventID, "named %d times", len(values))
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil {
		return nil, bus.Invalid(bus.InvalidField, lastEventID, "%q, must be a whole number below 2^63, and not negative", clip(values[0]))
	}
	id := bus.ID(n)
	return &id, nil
}

// appendOpening appends the first batch of a reader that asked for what is after. Where
// it begins comes before what it is given.
func appendOpening(dst []byte, b dispatch.Batch, after *bus.ID) []byte {
	if len(b.Notifications) == 0 {
		return appendEvents(dst, b)
	}
	from := b.Notifications[0].ID - 1
	switch {
	case b.Gap != nil:
		from = b.Gap.Until
		dst = appendGapEvent(dst, b.Gap)
		b.Gap = nil
	case after != nil:
		from = *after
	}
	return appendEvents(appendPosition(dst, from), b)
}

// appendEvents appends the events of a batch. One without notifications has a position.
func appendEvents(dst []byte, b dispatch.Batch) []byte {
	if b.Gap != nil {
		dst = appendGapEvent(dst, b.Gap)
	}
	if len(b.Notifications) == 0 {
		return appendPosition(dst, b.Last)
	}
	for _, n := range b.Notifications {
		dst = appendID(dst, n.ID)
		dst = append(dst, "data: "...)
		dst = append(dst, n.Encoded(bus.EncodingJSON, notificationJSON)...) // one line
		dst = append(dst, "\n\n"...)
	}
	return dst
}

func appendPosition(dst []byte, last bus.ID) []byte {
	dst = append(dst, "event: position\n"...)
	dst = appendID(dst, last)
	dst = append(dst, `data: {"last":`...)
	dst = strconv.AppendInt(dst, int64(last), 10)
	return append(dst, "}\n\n"...)
}

func appendGapEvent(dst []byte, g *bus.Gap) []byte {
	dst = append(dst, "event: gap\n"...)
	dst = appendID(dst, g.Until)
	dst = append(dst, "data: "...)
	dst = appendGap(dst, g)
	return append(dst, "\n\n"...)
}

func appendID(dst []byte, id bus.ID) []byte {
	dst = append(dst, "id: "...)
	dst = strconv.AppendInt(dst, int64(id), 10)
	return append(dst, '\n')
}

// appendFaultEvent appends the last event of a stream. Clients that are told at the same
// moment, by a node that drains, come back at different ones.
func appendFaultEvent(dst []byte, f *fault) []byte {
	pause := max(f.retry, time.Second)
	pause += rand.N(pause)
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, pause.Milliseconds(), 10)
	dst = append(dst, "\nevent: fault\ndata: "...)
	return append(f.appendJSON(dst), "\n\n"...)
}

// passing says that the same request, made again, may find what it asks for.
func (f *fault) passing() bool {
	return f.retry > 0 || f.httpStatus() >= http.StatusInternalServerError && f.httpStatus() != http.StatusNotImplemented
}

// writeEvent answers with a stream that consists of f: an EventSource never comes back
// from any status but 200.
func (f *fault) writeEvent(w http.ResponseWriter) {
	streamHeaders(w.Header(), eventsType)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(appendFaultEvent(nil, f)) // nobody to tell if the caller is gone
}
