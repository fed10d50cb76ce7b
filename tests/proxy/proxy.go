// Package proxy is the network between a node and its database, for the tests: it can be
// cut, stuck, slow, or lose what the database answers.
package proxy

import (
	"io"
	"net"
	neturl "net/url"
	"sync"
	"time"
)

// A Weather is what a Proxy does to what passes it.
type Weather struct {
	Cut    bool          // nothing gets through: connections end, new ones too
	Stuck  bool          // connections stay open and nothing moves
	Losing bool          // questions get through, answers end the connection
	Delay  time.Duration // of each packet, both ways
}

// dialing bounds a connection's begin.
const dialing = 30 * time.Second

// A Proxy stands between one or more nodes and a database.
type Proxy struct {
	URL string // of the database, through the proxy

	at   net.Listener
	ends sync.WaitGroup

	mu      sync.Mutex // guards what follows
	server  string
	weather Weather
	changed chan struct{} // closed when the weather changes
	conns   map[net.Conn]struct{}
	closed  bool
}

// Start starts a proxy to the database at url. It must be closed.
func Start(url string) (*Proxy, error) {
	parsed, err := neturl.Parse(url)
	if err != nil {
		return nil, err
	}
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{server: parsed.Host, at: at, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	parsed.Host = at.Addr().String()
	p.URL = parsed.String()
	p.ends.Go(func() {
		for {
			client, err := at.Accept()
			if err != nil {
				return
			}
			p.ends.Go(func() { p.serve(client) })
		}
	})
	return p, nil
}

// Set changes the weather.
func (p *Proxy) Set(w Weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setLocked(w)
}

func (p *Proxy) setLocked(w Weather) {
	p.weather = w
	close(p.changed)
	p.changed = make(chan struct{})
	if w.Cut {
		for conn := range p.conns {
			conn.Close()
		}
	}
}

// Lead makes what connects from now on reach the server at url.
func (p *Proxy) Lead(url string) error {
	parsed, err := neturl.Parse(url)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = parsed.Host
	return nil
}

// Close ends every connection, and the proxy.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.setLocked(Weather{Cut: true})
	p.mu.Unlock()
	p.at.Close()
	p.ends.Wait()
}

// now returns the weather, and a channel that is closed when it changes.
func (p *Proxy) now() (Weather, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.weather, p.changed
}

// track adds a connection and returns the server that it leads to; false: it must end at
// once.
func (p *Proxy) track(conn net.Conn) (server string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.weather.Cut {
		return "", false
	}
	p.conns[conn] = struct{}{}
	return p.server, true
}

func (p *Proxy) forget(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *Proxy) serve(client net.Conn) {
	defer p.forget(client)
	address, ok := p.track(client)
	if !ok {
		return
	}
	server, err := net.DialTimeout("tcp", address, dialing)
	if err != nil {
		return
	}
	defer p.forget(server)
	if _, ok := p.track(server); !ok {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(client, server, false) })
	both.Go(func() { p.pass(server, client, true) })
	both.Wait()
}

// pass copies one way until either side ends.
func (p *Proxy) pass(from, to net.Conn, answers bool) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && (!p.admit(answers) || !write(to, buffer[:n])) {
			return
		}
		if err != nil {
			return
		}
	}
}

func write(to io.Writer, packet []byte) bool {
	_, err := to.Write(packet)
	return err == nil
}

// admit lets a packet wait as the weather is; false: it is lost, and the connection with it.
func (p *Proxy) admit(answer bool) bool {
	for {
		w, changed := p.now()
		switch {
		case w.Cut || answer && w.Losing:
			return false
		case w.Stuck:
			<-changed
		case w.Delay > 0:
			select {
			case <-time.After(w.Delay):
				return true
			case <-changed:
			}
		default:
			return true
		}
	}
}
