//go:build unix

package main

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/postbus/postbus/bench/internal/rig"
)

// bareWebServer serves a bareWeb. Each line that it reads, the way and a number, makes it
// send so many messages to all.
func bareWebServer(_ context.Context, _ []string, in io.Reader, out io.Writer) error {
	b, end, err := newBareWeb()
	if err != nil {
		return err
	}
	defer end()
	server := &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute} // as service.HTTPServer has
	return rig.ServeHTTP(server, in, out, func(line string) error {
		way, count, err := parseOrder(line)
		if err != nil {
			return err
		}
		return b.send(way, count)
	})
}
