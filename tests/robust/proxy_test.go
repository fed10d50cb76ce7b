package robust

import (
	"io"
	"net"
	neturl "net/url"
	"sync"
	"time"
)

// A weather is what a proxy does to what passes it.
type weather struct {
	cut    bool          // nothing gets through: connections end, new ones too
	stuck  bool          // connections stay open and nothing moves
	losing bool          // questions get through, answers end the connection
	delay  time.Duration // of each packet, both ways
}

// A proxy is the network between one node and the database.
type proxy struct {
	server string
	url    string // of the database, through the proxy
	at     net.Listener
	ends   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	weather weather
	changed chan struct{} // closed when the weather changes
	conns   map[net.Conn]struct{}
	closed  bool
}

// newProxy starts a proxy to the database at url.
func newProxy(url string) (*proxy, error) {
	parsed, err := neturl.Parse(url)
	if err != nil {
		return nil, err
	}
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{server: parsed.Host, at: at, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	parsed.Host = at.Addr().String()
	p.url = parsed.String()
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

// set changes the weather.
func (p *proxy) set(w weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.weather = w
	close(p.changed)
	p.changed = make(chan struct{})
	if w.cut {
		for conn := range p.conns {
			conn.Close()
		}
	}
}

// close ends every connection and waits.
func (p *proxy) close() {
	p.set(weather{cut: true})
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.at.Close()
	p.ends.Wait()
}

// now returns the weather, and a channel that is closed when it changes.
func (p *proxy) now() (weather, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.weather, p.changed
}

// track adds a connection; false: it must end at once.
func (p *proxy) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.weather.cut {
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *proxy) forget(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *proxy) serve(client net.Conn) {
	defer p.forget(client)
	if !p.track(client) {
		return
	}
	server, err := net.DialTimeout("tcp", p.server, longest)
	if err != nil {
		return
	}
	defer p.forget(server)
	if !p.track(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(client, server, false) })
	both.Go(func() { p.pass(server, client, true) })
	both.Wait()
}

// pass copies one way until either side ends.
func (p *proxy) pass(from, to net.Conn, answers bool) {
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
func (p *proxy) admit(answer bool) bool {
	for {
		w, changed := p.now()
		switch {
		case w.cut || answer && w.losing:
			return false
		case w.stuck:
			<-changed
		case w.delay > 0:
			select {
			case <-time.After(w.delay):
				return true
			case <-changed:
			}
		default:
			return true
		}
	}
}
