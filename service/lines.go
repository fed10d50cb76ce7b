package service

import (
	"net/http"

	"github.com/postbus/postbus/internal/dispatch"
)

const linesType = "application/x-ndjson"

// serveLines is Subscribe as one JSON response a line. A fault behind the first line is a
// last one, {"error":…}.
func (s *Service) serveLines(w http.ResponseWriter, r *http.Request, in *incoming) (*pause, error) {
	walking, err := s.readWalking(in)
	if err != nil {
		return nil, err
	}
	return s.serveStream(w, r, walking, body{
		mediaType: linesType, form: formLine, opening: appendLine, batch: appendLine,
		fault: func(dst []byte, f *fault) []byte { return append(f.appendJSON(dst), '\n') },
	})
}

func appendLine(dst []byte, b dispatch.Batch) []byte { return append(appendBatch(dst, b), '\n') }
