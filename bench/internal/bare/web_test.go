//go:build unix

package bare

import (
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/postbus/postbus/bench/internal/sink"
)

// serveWeb serves a web for the test and returns its address.
func serveWeb(t *testing.T) (*web, string) {
	t.Helper()
	b, err := newWeb()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: b}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		b.loops.end()
	})
	return b, listener.Addr().String()
}

func TestEveryReaderByHTTPGetsEveryPreparedMessage(t *testing.T) {
	for over, ways := range map[string][]string{
		sink.Polls:   {Parked},
		sink.Events:  {Strict, Plain},
		sink.Sockets: {Strict, Plain},
	} {
		t.Run(over, func(t *testing.T) {
			const readers = 60
			b, addr := serveWeb(t)
			s, reached := startTestSink(t, sink.Plan{Target: addr, Over: over, Readers: readers, Channel: "a"})
			sent := int64(0)
			for _, way := range ways {
				for _, count := range []int{1, 32, 1} {
					sent += int64(count)
					s.Until(sent * readers)
					if err := b.send(way, count); err != nil {
						t.Fatal(err)
					}
					await(t, s, reached)
				}
			}
			if err := s.Check(sent); err != nil {
				t.Error(err)
			}
			if err := s.Check(sent + 1); err == nil {
				t.Error("every reader has got what nobody sent")
			}
		})
	}
}
