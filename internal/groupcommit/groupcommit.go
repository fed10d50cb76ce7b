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
// Who finds nothing under way has no queue to join, and commits by himself.
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
	opts    Options
	batches chan []*send // to the committers; capacity InFlight: who begins one never waits

	mu       sync.Mutex // guards what follows
	queue    []*send
	queued   load                  // of queue
	parked   map[*send]*time.Timer // waiting for a busy key, outside the queue
	accepted load                  // waiting or under way
	underWay int                   // batches
	begun    time.Time             // the last of them
	late     *time.Timer           // looks again when that takes long
	running  bool
	stopping bool
	ended    sync.Cond // a batch
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
	w := &Writer{opts: o, batches: make(chan []*send, o.InFlight), parked: make(map[*send]*time.Timer)}
	w.ended.L = &w.mu
	return w
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
// bus.ErrUnknownOutcome, or when ctx ends first, that is not known. Who commits by himself
// is told what became of it, within CommitTimeout, though ctx has ended meanwhile.
func (w *Writer) Send(ctx context.Context, messages []bus.Message) ([]bus.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &send{messages: messages, gone: ctx.Done(), answer: make(chan answer, 1)}
	for i := range messages {
		s.bytes += messages[i].Size()
	}
	alone, err := w.accept(s)
	if err != nil {
		return nil, err
	}
	if alone {
		w.commitAlone(ctx, s)
		select {
		case a := <-s.answer: // before the end of ctx
			return a.receipts, a.err
		default: // its key is busy
		}
	}
	select {
	case a := <-s.answer:
		return a.receipts, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// accept takes s into the queue, unless nothing is under way: then its caller commits it alone.
func (w *Writer) accept(s *send) (alone bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping {
		return false, bus.ErrDraining
	}
	if w.accepted.exceeds(s, w.opts.QueueMessages, w.opts.QueueBytes) {
		return false, fmt.Errorf("%w: %d messages, %d bytes; at most %d messages, %d bytes", bus.ErrSendQueueFull,
			w.accepted.messages, w.accepted.bytes, w.opts.QueueMessages, w.opts.QueueBytes)
	}
	w.accepted.add(s)
	if alone = w.running && w.underWay == 0 && len(w.queue) == 0; alone {
		w.beginLocked()
	} else {
		w.enqueueLocked(s)
	}
	return alone, nil
}

// commitAlone commits s on its caller's goroutine: to wake another one for it, and to be woken
// by that, is 4 % of what a lone sender waits for.
func (w *Writer) commitAlone(ctx context.Context, s *send) {
	panicked := true // it is the caller's, then, and nobody else's
	defer func() {
		if panicked {
			w.finish(s, answer{err: bus.ErrUnknownOutcome})
		}
		if batch := w.next(); len(batch) > 0 {
			w.batches <- batch // there is room
		}
	}()
	w.commit(context.WithoutCancel(ctx), []*send{s})
	panicked = false
}

// Run commits until ctx ends, then refuses new sends, answers those accepted, and
// returns nil. A batch under way is not cut off by ctx, only by its own deadline.
func (w *Writer) Run(ctx context.Context) error {
	var committers sync.WaitGroup
	for range w.opts.InFlight {
		committers.Go(func() { w.commitBatches(context.WithoutCancel(ctx)) })
	}
	w.start()
	<-ctx.Done()
	w.stop()
	close(w.batches)
	committers.Wait()
	return nil
}

// commitBatches commits one batch after the other. It stays, since a database driver goes deep:
// to grow a new stack for each batch is 3 % of a busy node's CPU time.
func (w *Writer) commitBatches(ctx context.Context) {
	for batch := range w.batches {
		for len(batch) > 0 {
			w.commit(ctx, batch)
			batch = w.next()
		}
	}
}

// start begins with what was sent before.
func (w *Writer) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = true
	w.late = time.AfterFunc(w.opts.Late, w.proceed)
	w.proceedLocked()
}

// stop refuses new sends, gives up on those that wait for a busy key, and waits for the others:
// within CommitTimeout for each batch.
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

	w.mu.Lock()
	defer w.mu.Unlock()
	w.proceedLocked()
	for w.underWay > 0 {
		w.ended.Wait()
	}
	w.late.Stop()
}

// State returns what the Writer has done and what waits.
func (w *Writer) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.counts
	s.Queued, s.QueuedBytes = w.accepted.messages, w.accepted.bytes
	return s
}
