package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// Options configure a Dispatcher; zero values are the defaults.
type Options struct {
	Store  Store        // required
	Logger *slog.Logger // default: discards

	// Fallback is the longest sleep without a read. Default 1 s.
	Fallback time.Duration
	// WindowBytes bounds what the window keeps in memory. Default 64 MiB.
	WindowBytes int
	// PageReaders bounds the reads of the table that run at once; others wait for
	// their turn. Default 8.
	PageReaders int
	// PageQueue bounds those that wait; more are refused. Default 10,000.
	PageQueue int
	// Memberships bounds the channels of all subscriptions together. Default 2,000,000.
	Memberships int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fallback <= 0 {
		o.Fallback = time.Second
	}
	if o.WindowBytes <= 0 {
		o.WindowBytes = 64 << 20
	}
	if o.PageReaders <= 0 {
		o.PageReaders = 8
	}
	if o.PageQueue <= 0 {
		o.PageQueue = 10_000
	}
	if o.Memberships <= 0 {
		o.Memberships = 2_000_000
	}
	return o
}

// A Dispatcher is the node's view of the bus. Its methods may be called from any
// goroutine.
type Dispatcher struct {
	opts    Options
	ready   chan struct{} // closed when everything committed before the start is settled
	pages   chan struct{} // one token for each read of the table
	rounds  []round
	queued  atomic.Int64 // who wait for one
	counts  counts
	readies sync.Once

	mu       sync.RWMutex // guards what follows, and the marks of every Subscription
	window   window
	pos      bus.ID // every id up to here is settled
	head     bus.ID // the highest id seen
	pasts    []bus.Past
	given    bus.ID // an id that the database is known to have given, or higher
	started  bool   // pos is the database's, not yet zero
	moved    time.Time
	early    early
	subs     map[*Subscription]struct{}
	members  int // of all subs
	draining bool
	link     link
}

// link is what is known of the tail's connection.
type link struct {
	connected bool
	sleeping  bool
	listening bool
	err       error
	held      time.Time // since when a gap is open; zero: none is
	holders   []Holder  // who holds it open
}

type counts struct {
	reconnects, pages, delivered, reads, probes, bells, missedBells atomic.Int64
}

// New returns a Dispatcher. Nothing is read until Run.
func New(o Options) *Dispatcher {
	o = o.withDefaults()
	d := &Dispatcher{
		opts:   o,
		ready:  make(chan struct{}),
		pages:  make(chan struct{}, o.PageReaders),
		rounds: make([]round, runtime.GOMAXPROCS(0)),
		subs:   make(map[*Subscription]struct{}),
	}
	d.window.init(o.WindowBytes)
	return d
}

// Run follows the tail until ctx ends, and returns nil then. It connects again, with a
// pause of 50 ms to 2 s, whenever the connection fails.
func (d *Dispatcher) Run(ctx context.Context) error {
	pause := minPause
	for {
		err := d.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if d.lost(err) {
			pause = minPause
		}
		d.counts.reconnects.Add(1)
		d.opts.Logger.WarnContext(ctx, "the tail is not being followed; connecting again", "error", err, "pause", pause)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, maxPause)
	}
}

const (
	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
)

// lost records the end of a connection and says whether it had been established.
func (d *Dispatcher) lost(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.link.connected
	d.window.answered()
	d.link = link{err: err}
	return was
}

// Ready is closed when everything that was committed before the start is settled: only
// then "from now on" has a meaning, and readers are admitted with it.
func (d *Dispatcher) Ready() <-chan struct{} { return d.ready }

// Drain ends every Next, present and future, with its last and bus.ErrDraining.
func (d *Dispatcher) Drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draining = true
	for s := range d.subs {
		s.ring()
	}
}

// A settled is what a read of the tail has found to be settled.
type settled struct {
	rows   []*bus.Notification
	hollow []bus.ID            // of rows that were not sent
	pos    bus.ID              // all up to here is settled
	above  []*bus.Notification // read, and not settled yet
}

// settle appends what is settled and moves pos. What was read above is kept, so that it is
// read once.
func (d *Dispatcher) settle(s settled) (progress bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.pos
	for _, n := range s.rows {
		if n.ID > d.pos { // else an Offer was faster
			d.appendLocked(n)
		}
	}
	if s.pos > d.pos {
		d.pos = s.pos
		d.moved = time.Now()
	}
	for _, n := range s.above {
		d.early.keep(n, d.opts.WindowBytes)
	}
	d.early.drop(d.pos)
	d.takeEarlyLocked()
	if len(s.hollow) > 0 {
		d.hollowLocked(highest(nil, s.hollow))
	}
	d.window.answered()
	d.window.evict()
	d.ringLocked()
	if d.pos == before {
		return false
	}
	if past, ok := nextPast(d.pasts, before); ok && past.Until <= d.pos {
		for s := range d.subs {
			s.ring() // to be told of the gap
		}
	}
	return true
}

func (d *Dispatcher) appendLocked(n *bus.Notification) {
	d.pos = n.ID
	d.head = max(d.head, n.ID)
	d.moved = time.Now()
	for _, m := range d.window.append(n).members {
		m.markLocked(n.ID)
	}
}

// ringLocked rings those who ride and were marked.
func (d *Dispatcher) ringLocked() {
	for i := range d.rounds {
		if r := &d.rounds[i]; len(r.rung) > 0 {
			r.ring(r.rung...)
			clear(r.rung)
			r.rung = r.rung[:0]
		}
	}
}

// page reads from the table, when its turn comes.
func (d *Dispatcher) page(ctx context.Context, req PageRequest) (Page, error) {
	page, err := d.opts.Store.ReadPage(ctx, req)
	if err != nil {
		if ctx.Err() != nil {
			return Page{}, ctx.Err()
		}
		return Page{}, fmt.Errorf("read %d channels after %d: %w: %w", len(req.Channels), req.After, bus.ErrUnavailable, err)
	}
	d.counts.pages.Add(1)
	return page, nil
}
