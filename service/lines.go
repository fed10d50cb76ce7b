package service

import (
	"net/http"
	"strings"
	"time"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/dispatch"
)

const linesType = "application/x-ndjson"

// serveLines is Subscribe as one JSON response a line. Its status and headers go out
// with the first line, at once; a fault before it has a status of its own, and one
// behind it is a last line, {"error":…}. A reader that stalls blocks this goroutine
// alone.
func (s *Service) serveLines(w http.ResponseWriter, r *http.Request, in *incoming) error {
	if headerHas(r.Header, "Connection", "upgrade") && headerHas(r.Header, "Upgrade", "websocket") {
		return errNotImplemented("the WebSocket protocol")
	}
	if accept := strings.Join(r.Header.Values("Accept"), ","); strings.Contains(strings.ToLower(accept), "text/event-stream") {
		return errNotAcceptable(accept)
	}
	var req postbusv1.SubscribeRequest
	err := in.read(func(data []byte) error { return jsonReader{&s.limits}.subscribe(data, &req) })
	if err != nil {
		return err
	}
	walking, err := s.walkingOf(&req)
	if err != nil {
		return err
	}

	rc := http.NewResponseController(w)
	// A server's write timeout is for answers that end. Who has no deadlines needs
	// none taken off.
	_ = rc.SetWriteDeadline(time.Time{})
	begun := false
	line := func(text []byte) error {
		if !begun {
			begun = true
			h := w.Header()
			h.Set("Content-Type", linesType)
			h.Set("Cache-Control", "no-store")
			h.Set("X-Accel-Buffering", "no")
			h.Add("Vary", "Accept")
		}
		if _, err := w.Write(append(text, '\n')); err != nil {
			return err
		}
		return rc.Flush()
	}
	err = s.walk(r.Context(), walking, way{give: func(b dispatch.Batch) error { return line(appendBatch(nil, b)) }})
	if err == nil || !begun {
		return err
	}
	f := s.refuse(r.Context(), r.URL.Path, err)
	_ = line(f.appendJSON(nil)) // the reader may be gone, which is no news
	return nil
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
