package service

import "net/http"

// serveWebSocket is Subscribe by WebSocket.
func (s *Service) serveWebSocket(http.ResponseWriter, *http.Request, *incoming) error {
	return errNotImplemented("the WebSocket protocol")
}
