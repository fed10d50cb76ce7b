//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// bareWebServer serves a bareWeb. Each line that it reads, the way and a number, makes it
// send so many messages to all.
func bareWebServer(_ context.Context, _ []string, in io.Reader, out io.Writer) error {
	b, end, err := newBareWeb()
	if err != nil {
		return err
	}
	defer end()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute} // as service.HTTPServer has
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "ready %s\n", listener.Addr())
	err = b.obey(in)
	closed := server.Close()
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return errors.Join(err, closed)
}

func (b *bareWeb) obey(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var way string
		var count int
		if _, err := fmt.Sscan(lines.Text(), &way, &count); err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if err := b.send(way, count); err != nil {
			return err
		}
	}
	return lines.Err()
}
