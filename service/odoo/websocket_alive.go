package odoo

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Odoo's clocks. They are constants: its clients know them.
const (
	// A client that has said nothing for quietTime and up to quietSpread is pinged, and
	// dropped when nothing comes within pongTime.
	quietTime   = 40 * time.Second
	quietSpread = 5 * time.Second
	pongTime    = 15 * time.Second

	// A socket's life is lifeTime and up to lifeSpread.
	lifeTime   = time.Hour
	lifeSpread = lifeTime / 2
)

// expired is the end of a socket that has lived long enough: its client comes back at once.
var expired = ending{code: 4002}

// An alive watches over a socket's life: it pings a client that is quiet, drops one that
// does not answer, and ends one whose time is over.
type alive struct {
	socket *socket
	began  time.Time
	heard  atomic.Int64  // when the client's last frame came, after began
	quiet  time.Duration // until it is pinged
	pinged time.Duration // after began; 0: not since it was heard; the beat's own
	beats  *time.Timer
	ends   *time.Timer
}

func (a *alive) start(s *socket) {
	a.socket, a.began, a.quiet = s, time.Now(), quietTime+rand.N(quietSpread)
	a.ends = time.AfterFunc(lifeTime+rand.N(lifeSpread), func() { s.end(expired) })
	a.beats = time.AfterFunc(lifeTime, a.beat)
	a.beats.Reset(a.quiet)
}

func (a *alive) stop() {
	a.beats.Stop()
	a.ends.Stop()
}

// hear notes that a frame has come.
func (a *alive) hear() { a.heard.Store(int64(time.Since(a.began))) }

// beat is the timer's. A ping that waits behind what the client does not read counts as
// sent.
func (a *alive) beat() {
	now, heard := time.Since(a.began), time.Duration(a.heard.Load())
	switch {
	case a.pinged > 0 && heard < a.pinged:
		a.socket.end(dropped)
	case now-heard < a.quiet:
		a.pinged = 0
		a.beats.Reset(a.quiet - (now - heard))
	default:
		a.pinged = now
		// A failure shows where the socket is read.
		_ = a.socket.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(pongTime))
		a.beats.Reset(max(pongTime-(time.Since(a.began)-now), 0))
	}
}

// A pace holds a client to Odoo's rate of frames: of any rateBurst + 1 in a row the last
// comes rateBurst times rateDelay after the first, or later.
type pace struct {
	times [rateBurst]time.Time // a ring
	next  int
}

const (
	rateBurst = 10
	rateDelay = 200 * time.Millisecond
)

// overloaded is the end of a client that is told to come back later.
var overloaded = ending{code: websocket.CloseTryAgainLater}

// count counts a frame. Error: overloaded.
func (p *pace) count() error {
	now := time.Now()
	if first := p.times[p.next]; !first.IsZero() && now.Sub(first) < rateBurst*rateDelay {
		return overloaded
	}
	p.times[p.next] = now
	p.next = (p.next + 1) % rateBurst
	return nil
}
