package service

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A door is a listener with a bound of connections (MaxConnections). A few more are let
// into the porch, so that they can be told why they are refused, request by request; one
// of them moves in as soon as somebody leaves, and is closed after porchTime if it could
// not. What comes while the porch is full, too, is closed at once
// (TestConnectionsAboveTheBoundAreTold).
type door struct {
	net.Listener
	service *Service
	inside  *budget
	porch   budget
}

const (
	porchPlaces = 100
	porchTime   = 10 * time.Second
)

// GRPCListener returns l with the bound of connections. GRPCServer's server should
// serve on it alone.
func (s *Service) GRPCListener(l net.Listener) net.Listener { return s.newDoor(l, &s.grpcGuests) }

// HTTPListener returns l with the bound of connections. HTTPServer's server should serve
// on it alone.
func (s *Service) HTTPListener(l net.Listener) net.Listener { return s.newDoor(l, &s.httpGuests) }

func (s *Service) newDoor(l net.Listener, inside *budget) *door {
	return &door{Listener: l, service: s, inside: inside, porch: budget{most: porchPlaces}}
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g := &guest{Conn: conn, door: d}
		if d.takeIn() == nil {
			g.at = inside
			return g, nil
		}
		if d.porch.take(1) {
			g.at = onPorch
			g.mu.Lock()
			g.leaves = time.AfterFunc(porchTime, g.expire)
			g.mu.Unlock()
			return g, nil
		}
		d.service.counts.faults[ReasonTooManyConnections].Add(1)
		_ = conn.Close() // nothing was said on it
	}
}

// takeIn takes a place of this door, and one of both doors together, or returns which of
// the two budgets is spent.
func (d *door) takeIn() (spent *budget) {
	if !d.inside.take(1) {
		return d.inside
	}
	if !d.service.guests.take(1) {
		d.inside.give(1)
		return &d.service.guests
	}
	return nil
}

// Where a guest is.
type place int

const (
	outside place = iota
	onPorch
	inside
)

// A guest is a connection that came through a door.
type guest struct {
	net.Conn
	door *door

	// What gRPC's receive goes by.
	arrived   atomic.Int64 // bytes read
	receiving atomic.Int64 // requests that have not come whole

	ready readiness // of ReadOnReady

	mu     sync.Mutex // guards what follows
	at     place
	spent  *budget     // why it was told that there is no room; nil: it was not
	leaves *time.Timer // from the porch
}

// admitted says whether the guest is inside, and takes it in from the porch if there is
// room.
func (g *guest) admitted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.at != onPorch {
		return g.at == inside
	}
	if g.spent = g.door.takeIn(); g.spent != nil {
		return false
	}
	g.leaveLocked()
	g.at = inside
	return true
}

// noRoom is what a guest that is not admitted is told.
func (g *guest) noRoom() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.door.service.errTooManyConnections(g.spent)
}

// expire ends a guest that is still on the porch, which from then on moves in no more
// (TestGuestIsTakenInOrEndedNeverBoth).
func (g *guest) expire() {
	g.mu.Lock()
	onIt, told := g.at == onPorch, g.spent != nil
	if onIt {
		g.leaveLocked()
	}
	g.mu.Unlock()
	if !onIt {
		return
	}
	if !told {
		g.door.service.counts.faults[ReasonTooManyConnections].Add(1)
	}
	_ = g.Conn.Close() // its server sees that it has ended
}

// leaveLocked gives a guest's place back.
func (g *guest) leaveLocked() {
	switch g.at {
	case inside:
		g.door.inside.give(1)
		g.door.service.guests.give(1)
	case onPorch:
		g.leaves.Stop()
		g.door.porch.give(1)
	}
	g.at = outside
}

// Read implements net.Conn.
func (g *guest) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.arrived.Add(int64(n))
	return n, err
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.mu.Lock()
	g.leaveLocked()
	g.mu.Unlock()
	return g.Conn.Close()
}

// CloseWrite closes the connection for writing alone, so that a last word is read before the
// end.
func (g *guest) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// RemoteAddr implements net.Conn. The address, which both servers and TLS hand on, is
// what leads from a request back to its guest.
func (g *guest) RemoteAddr() net.Addr { return guestAddr{g.Conn.RemoteAddr(), g} }

type guestAddr struct {
	net.Addr
	guest *guest
}

// guestOf returns the guest whose address it is; nil if it came through no door.
func guestOf(addr net.Addr) *guest {
	if a, ok := addr.(guestAddr); ok {
		return a.guest
	}
	return nil
}
