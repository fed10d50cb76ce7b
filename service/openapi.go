package service

import (
	_ "embed"
	"net/http"
)

// openAPI describes the JSON side. It is written by hand, because the JSON form is not
// protojson's (TestRefusalsNameTheFieldAndTheFault).
//
//go:embed openapi.json
var openAPI []byte

func serveOpenAPI(w http.ResponseWriter, _ *http.Request, _ *incoming) (*pause, error) {
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(openAPI) // nobody to tell if the caller is gone
	return nil, nil
}
