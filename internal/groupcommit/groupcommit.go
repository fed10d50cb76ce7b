// Package groupcommit turns many senders into few commits: whatever waits while a
// commit is under way goes into the next one. The commit in flight is the timer: a
// lone sender commits at once, and a thousand senders share a statement. Another one
// begins beside it when it would be full, or when the commit takes long
// (TestNextBatchWaitsForTheCommitUnderWay).
//
// One message's way through this package:
//
//	Send ──▶ queue ──▶ batch ──▶ Store.Append ──▶ Stored ──▶ Send returns
//	         bounded   taken when it may begin     told first   durable now
//
// A send is atomic: its messages are in one batch, and a batch is one statement.
// What goes wrong stays where it belongs: the database's refusal of one message splits
// the batch until only its own send fails (TestOnlyTheCulpritFails), and a key
// that an open transaction uses takes its send out of the batch, to be tried again a
// little later (TestBusyKeyDelaysNobodyElse).
package groupcommit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A Writer commits what is sent. Its methods may be called from any goroutine.
type Writer struct {
	opts  Options
	wake  chan struct{} // capacity 1: wake-ups merge; the queue says what there is
	ended chan struct{} // one token for each batch that has ended; capacity InFlight

	mu       sync.Mutex // guards what follows
	queue    []*send
	queued   load                  // of queue
	parked   map[*send]*time.Timer // waiting for a busy key, outside the queue
	accepted load                  // waiting or under way
	stopping bool
	counts   State
}

// A load is how much some sends hold.
type load struct{ messages, bytes int }

func (l *load) add(s *send)  { l.messages += len(s.messages); l.bytes += s.bytes }
func (l *load) drop(s *send) { l.messages -= len(s.messages); l.bytes -= s.bytes }

// exceeds says that l with s is above a bound.
func (l load) exceeds(s *send, messages, bytes int) bool {
	return l.messages+len(s.messages) > messages || l.bytes+s.bytes > bytes
}

// State is what a Writer reports about itself.
type State struct {
	Queued      int   // messages accepted and not yet answered
	QueuedBytes int   // their bytes
	Batches     int64 // statements committed since the start
	Sends       int64 // sends that they stored
	Messages    int64 // messages that these had
}

// New returns a Writer. Nothing is committed until Run.
func New(o Options) *Writer {
	o = o.withDefaults()
	return &Writer{
		opts:   o,
		wake:   make(chan struct{}, 1),
		ended:  make(chan struct{}, o.InFlight),
		parked: make(map[*send]*time.Timer),
	}
}

// A send is what one caller of Send waits for.
type send struct {
	messages []bus.Message
	bytes    int
	gone     <-chan struct{} // closed when the caller waits no more
	answer   chan answer     // capacity 1: the Writer never waits for a caller
	tries    int             // with a busy key
	deadline time.Time       // for a busy key
}

func (s *send) abandoned() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

type answer struct {
	receipts []bus.Receipt
	err      error
}

// Send stores messages, all or none, and returns after their commit: they are durable
// and will be delivered. Receipts are in the order of messages.
//
// Nothing was stored when the error is bus.ErrSendQueueFull (at once, when the queue is
// full), bus.ErrDraining, bus.ErrUnavailable, bus.ErrKeyBusy or a *DataError. With
// bus.ErrUnknownOutcome, or when ctx ends first, that is not known.
func (w *Writer) Send(ctx context.Context, messages []bus.Message) ([]bus.Receipt, error) {
	s := &send{messages: messages, gone: ctx.Done(), answer: make(chan answer, 1)}
	for i := range messages {
		s.bytes += messages[i].Size()
	}
	if err := w.accept(s); err != nil {
		return nil, err
	}
	select {
	case a := <-s.answer:
		return a.receipts, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *Writer) accept(s *send) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping {
		return bus.ErrDraining
	}
	if w.accepted.exceeds(s, w.opts.QueueMessages, w.opts.QueueBytes) {
		return fmt.Errorf("%w: %d messages, %d bytes; at most %d messages, %d bytes", bus.ErrSendQueueFull,
			w.accepted.messages, w.accepted.bytes, w.opts.QueueMessages, w.opts.QueueBytes)
	}
	w.accepted.add(s)
	w.enqueueLocked(s)
	return nil
}

// enqueueLocked adds s to the queue, and wakes Run if that can begin a batch now or has to
// look when the commit under way takes long: not for each send.
func (w *Writer) enqueueLocked(s *send) {
	first, full := len(w.queue) == 0, w.fullLocked()
	w.queued.add(s)
	w.queue = append(w.queue, s)
	if first || full != w.fullLocked() {
		w.ring()
	}
}

// fullLocked says that what is queued fills a batch.
func (w *Writer) fullLocked() bool {
	return w.queued.messages >= w.opts.BatchMessages || w.queued.bytes >= w.opts.BatchBytes
}

func (w *Writer) ring() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run commits until ctx ends, then refuses new sends, answers those accepted, and
// returns nil. A batch under way is not cut off by ctx, only by its own deadline.
func (w *Writer) Run(ctx context.Context) error {
	batches := make(chan []*send, w.opts.InFlight)
	defer w.committers(context.WithoutCancel(ctx), batches)()
	stop := ctx.Done()
	late := time.NewTimer(0)
	defer late.Stop()
	underWay, begun := 0, time.Time{} // the last of those under way
	for {
		for w.mayBegin(underWay, begun) {
			batch := w.take()
			if len(batch) == 0 {
				break // all have gone away
			}
			underWay, begun = underWay+1, time.Now()
			batches <- batch // there is room
		}
		if stop == nil && underWay == 0 && !w.waiting() {
			return nil
		}
		var tooLong <-chan time.Time
		if underWay > 0 && underWay < w.opts.InFlight && w.waiting() {
			late.Reset(max(0, w.opts.Late-time.Since(begun)))
			tooLong = late.C
		}
		select {
		case <-stop:
			w.stop()
			stop = nil
		case <-w.wake:
		case <-w.ended: // within CommitTimeout
			underWay--
		case <-tooLong:
		}
	}
}

// committers starts those who commit batches, and returns what ends them and waits. They
// stay, since a database driver goes deep: to grow a new stack for each batch is 3 % of a
// busy node's CPU time.
func (w *Writer) committers(ctx context.Context, batches chan []*send) (end func()) {
	var all sync.WaitGroup
	for range w.opts.InFlight {
		all.Go(func() {
			for batch := range batches {
				w.commit(ctx, batch)
				w.ended <- struct{}{}
			}
		})
	}
	return func() {
		close(batches)
		all.Wait()
	}
}

// mayBegin says whether the next batch may. The commit under way is the timer of those who
// wait, so that the busier a node is the larger its batches are; another one begins beside it
// when that would be full, or when the commit takes long.
func (w *Writer) mayBegin(underWay int, begun time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.queue) == 0 || underWay == w.opts.InFlight:
		return false
	case underWay == 0 || w.stopping || time.Since(begun) >= w.opts.Late:
		return true
	}
	return w.fullLocked()
}

// stop refuses new sends and gives up on those that wait for a busy key.
func (w *Writer) stop() {
	w.mu.Lock()
	w.stopping = true
	var parked []*send
	for s, timer := range w.parked {
		timer.Stop()
		parked = append(parked, s)
	}
	clear(w.parked)
	w.mu.Unlock()
	for _, s := range parked {
		w.finish(s, answer{err: bus.ErrKeyBusy})
	}
}

func (w *Writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) > 0
}

// State returns what the Writer has done and what waits.
func (w *Writer) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.counts
	s.Queued, s.QueuedBytes = w.accepted.messages, w.accepted.bytes
	return s
}
