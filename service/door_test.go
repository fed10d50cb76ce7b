package service

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// newDoors returns both doors of a Service that has no more than its bounds of connections.
func newDoors(t *testing.T, each, both int) (grpc, http *door) {
	t.Helper()
	s := &Service{opts: Options{MaxConnections: each, MaxGuests: both}, counts: newCounts()}
	s.grpcGuests.most, s.httpGuests.most, s.guests.most = int64(each), int64(each), int64(both)
	open := func(inside *budget) *door {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return s.newDoor(l, inside)
	}
	return open(&s.grpcGuests), open(&s.httpGuests)
}

// visit connects to a door and returns both ends.
func visit(t *testing.T, d *door) (*guest, net.Conn) {
	t.Helper()
	visitor, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { visitor.Close() })
	conn, err := d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*guest), visitor
}

func TestRefusedConnectionIsToldWhichBoundIsReached(t *testing.T) {
	refused := func(d *door) string {
		g, _ := visit(t, d)
		if g.admitted() {
			t.Fatal("a connection above the bound is admitted")
		}
		return g.noRoom().Error()
	}
	grpc, _ := newDoors(t, 1, 2)
	visit(t, grpc)
	if said, want := refused(grpc), "1 connections of this listener"; !strings.Contains(said, want) {
		t.Errorf("at the bound of a listener: %q, want %q", said, want)
	}
	grpc, http := newDoors(t, 2, 1)
	visit(t, http)
	if said, want := refused(grpc), "1 connections of both listeners"; !strings.Contains(said, want) {
		t.Errorf("at the bound of descriptors: %q, want %q", said, want)
	}
}

// Whoever is told that it is in is not closed by the end of its time on the porch.
func TestGuestIsTakenInOrEndedNeverBoth(t *testing.T) {
	grpc, _ := newDoors(t, 1, 1)
	for range 2_000 {
		first, _ := visit(t, grpc)
		g, visitor := visit(t, grpc)
		if g.admitted() {
			t.Fatal("a connection above the bound is admitted")
		}
		first.Close()
		var in atomic.Bool
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if i == 7 { // which the scheduler favours
					g.expire()
				} else if g.admitted() {
					in.Store(true)
				}
			})
		}
		all.Wait()
		if _, err := g.Write([]byte{1}); in.Load() != (err == nil) {
			t.Fatalf("admitted: %v, and then written: %v", in.Load(), err)
		}
		g.Close()
		visitor.Close()
		if inside, porch := grpc.inside.used.Load(), grpc.porch.used.Load(); inside != 0 || porch != 0 {
			t.Fatalf("%d inside and %d on the porch when all have left", inside, porch)
		}
	}
}
