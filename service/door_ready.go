//go:build unix

package service

import (
	"errors"
	"io"
	"syscall"

	"google.golang.org/grpc/mem"
)

// A readiness reads from a connection with a buffer that is taken when there is something
// to be read, so that an idle connection holds none. One read at a time uses it.
type readiness struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool // made once: a closure for each read would be garbage
	pool mem.BufferPool
	size int
	buf  *[]byte
	n    int
	err  error
}

// ReadOnReady is gRPC's optional interface of a net.Conn
// (google.golang.org/grpc/internal/transport/readyreader): without it a wrapped connection
// pins a buffer of 32 KB.
func (g *guest) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	r := &g.ready
	if r.raw == nil {
		conn, ok := g.Conn.(syscall.Conn)
		if !ok {
			buf := pool.Get(size)
			n, err := g.Read(*buf)
			return buf, n, err
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			return nil, 0, err
		}
		r.raw, r.try = raw, r.read
	}
	r.pool, r.size = pool, size
	failed := r.raw.Read(r.try)
	buf, n, err := r.buf, r.n, r.err
	r.pool, r.buf, r.n, r.err = nil, nil, 0, nil // pin nothing
	switch {
	case failed != nil:
		if buf != nil {
			pool.Put(buf)
		}
		return nil, 0, failed
	case err != nil:
		return nil, 0, err
	case n == 0:
		pool.Put(buf)
		return nil, 0, io.EOF
	}
	g.arrived.Add(int64(n))
	return buf, n, nil
}

// read reads once, and says false when there is nothing yet.
func (r *readiness) read(fd uintptr) bool {
	r.buf = r.pool.Get(r.size)
	for {
		r.n, r.err = syscall.Read(int(fd), *r.buf)
		if !errors.Is(r.err, syscall.EINTR) {
			break
		}
	}
	if r.err == nil {
		return true
	}
	r.pool.Put(r.buf)
	r.buf, r.n = nil, 0
	return !errors.Is(r.err, syscall.EAGAIN)
}
