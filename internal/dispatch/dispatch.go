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

	mu         sync.RWMutex // guards what follows, and the marks of every Subscription
	window     window
	pos        bus.ID // every id up to here is settled
	head       bus.ID // the highest id seen
	pasts      []bus.Past
	given      bus.ID // an id that the database is known to have given, or higher
	started    bool   // pos is the database's, not yet zero
	moved      time.Time
	early      map[bus.ID]*bus.Notification // offered, above a gap
	earlyBytes int                          // of early
	subs       map[*Subscription]struct{}
	members    int // of all subs
	draining   bool
	link       link
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
		early:  make(map[bus.ID]*bus.Notification),
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

// settle appends what the tail's reader has found to be settled and moves pos there.
func (d *Dispatcher) settle(ns []*bus.Notification, pos bus.ID) (progress bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.pos
	for _, n := range ns {
		if n.ID > d.pos { // else an Offer was faster
			d.appendLocked(n)
		}
	}
	if pos > d.pos {
		d.pos = pos
		d.moved = time.Now()
	}
	d.dropEarlyLocked()
	d.takeEarlyLocked()
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

// begin takes over what a new connection found: at first the position, later new
// histories. What this node delivered and the database has lost is forgotten; the
// cursors that were given it are told when pos passes the boundary.
func (d *Dispatcher) begin(p Position) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, _ := lastPast(d.pasts)
	d.pasts = p.Histories
	d.head = max(d.head, p.Head)
	d.given = max(d.given, p.Head)
	if !d.started {
		d.started = true
		d.pos = p.Floor
		d.window.reset(d.pos)
		for s := range d.subs { // from before the start: the table has what is below
			s.until = d.pos
			s.ring()
		}
		return
	}
	if last, _ := lastPast(p.Histories); last.Until > known.Until {
		d.forgetEarlyLocked()
	}
	survived := d.pos
	for _, past := range p.Histories {
		if past.Until > known.Until && past.Until > d.pos { // else pos is of this history already
			survived = min(survived, past.Survived)
		}
	}
	if survived < d.pos {
		d.pos = survived
		for s := range d.subs {
			s.rewindLocked(survived)
		}
		d.window.reset(survived)
	}
	d.skipLocked(p.TrimmedTo)
}

// nextPast returns the first boundary that a cursor at id has not passed.
func nextPast(pasts []bus.Past, id bus.ID) (bus.Past, bool) {
	for _, past := range pasts {
		if past.Until > id {
			return past, true
		}
	}
	return bus.Past{}, false
}

func lastPast(pasts []bus.Past) (bus.Past, bool) {
	if len(pasts) == 0 {
		return bus.Past{}, false
	}
	return pasts[len(pasts)-1], true
}

// State is what a Dispatcher reports about itself.
type State struct {
	Connected bool // the tail is being followed
	Ready     bool // everything committed before the start is settled
	Sleeping  bool // blocked until the bell rings
	Listening bool // the connection can hear the bell; false: polling
	Err       error

	Pos     bus.ID        // every id up to here is settled
	Head    bus.ID        // the highest id seen
	Held    time.Duration // how long the oldest open gap has been open; 0: none is
	Holders []Holder      // who holds it open

	Subscriptions  int
	Memberships    int // their channels
	PagesWaiting   int // who wait for a read of the table
	WindowMessages int
	WindowBytes    int

	Reconnects  int64
	Pages       int64 // read from the table
	Delivered   int64 // notifications handed to subscriptions
	Reads       int64 // of the tail
	Probes      int64 // questions who holds a gap open
	Bells       int64 // heard
	MissedBells int64 // rows that only the fallback read found
	Stalls      int64 // subscriptions that held their courier up
}

// State returns the present state.
func (d *Dispatcher) State() State {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := State{
		Connected: d.link.connected, Sleeping: d.link.sleeping, Listening: d.link.listening, Err: d.link.err,
		Pos: d.pos, Head: d.head, Holders: d.link.holders,
		Subscriptions: len(d.subs), Memberships: d.members, PagesWaiting: int(d.queued.Load()), WindowMessages: d.window.len(), WindowBytes: d.window.bytes,
		Reconnects: d.counts.reconnects.Load(), Pages: d.counts.pages.Load(), Delivered: d.counts.delivered.Load(),
		Reads: d.counts.reads.Load(), Probes: d.counts.probes.Load(), Bells: d.counts.bells.Load(), MissedBells: d.counts.missedBells.Load(),
	}
	if !d.link.held.IsZero() {
		s.Held = time.Since(d.link.held)
	}
	for i := range d.rounds {
		s.Stalls += d.rounds[i].stalls()
	}
	select {
	case <-d.ready:
		s.Ready = true
	default:
	}
	return s
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
