package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// When the follower looks. None of these decides what is settled.
const (
	shortPoll  = 2 * time.Millisecond // after a read that found something
	longPoll   = 4 * time.Millisecond // after some that did not
	busyPoll   = 8 * time.Millisecond // after some that found busyRows: fewer and larger reads
	busyRows   = 8
	idle       = 20 * time.Millisecond // without movement: sleep
	restlessly = 50 * time.Millisecond // the longest pause of a connection that cannot sleep
	gapAge     = 4 * time.Millisecond  // most gaps fill by themselves: ask for holders after this
	minProbe   = 2 * time.Millisecond  // between two questions for holders
	maxProbe   = 20 * time.Millisecond
	bellRush   = 10 * time.Millisecond   // two bells closer than this: messages flow, poll
	floorEvery = time.Second             // the floor is recorded at most this often
	checkEvery = 2500 * time.Millisecond // proof that a sleeping connection hears
	heldShown  = time.Second             // a gap older than this is reported
)

// A follower follows the tail on one connection. It is the goroutine of
// Dispatcher.Run.
type follower struct {
	*Dispatcher
	tail    Tail
	tracker tracker
	target  bus.ID // settle at least up to here: the head at the start, or a boundary

	found     int       // rows that the last read has shown
	gapSince  time.Time // zero: no gap is open
	gapAt     bus.ID    // the pos that it holds
	probeNext time.Time
	probeWait time.Duration

	saved     bus.ID // the recorded floor
	savedAt   time.Time
	checkedAt time.Time // the connection heard then; outlives a sleep, however short
}

// follow opens a connection and follows the tail until ctx ends or the connection
// fails.
func (d *Dispatcher) follow(ctx context.Context) error {
	d.mu.RLock()
	pos := d.pos
	d.mu.RUnlock()
	tail, start, err := d.opts.Store.OpenTail(ctx, pos)
	if err != nil {
		return fmt.Errorf("open the tail: %w", err)
	}
	defer tail.Close()
	f := &follower{Dispatcher: d, tail: tail, target: start.Head, saved: start.Floor, checkedAt: time.Now()}
	f.tracker.floor = start.Floor
	if past, ok := lastPast(start.Histories); ok {
		f.target = max(f.target, past.Until)
	}
	d.begin(start)
	d.setLink(func(l *link) { *l = link{connected: true, listening: tail.CanSleep()} })
	return f.run(ctx)
}

func (d *Dispatcher) setLink(change func(*link)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.link)
}

// run reads while messages flow, and sleeps while they do not.
func (f *follower) run(ctx context.Context) error {
	pause := shortPoll
	for {
		progress, gap, err := f.read(ctx)
		if err != nil {
			return err
		}
		switch {
		case progress && f.found >= busyRows:
			pause = min(pause*2, busyPoll)
		case progress:
			pause = shortPoll
		case gap:
			pause = min(pause*2, maxProbe)
		case f.quietFor() >= idle && f.tail.CanSleep():
			if err := f.sleep(ctx); err != nil {
				return err
			}
			pause = shortPoll
		case f.tail.CanSleep():
			pause = min(pause*2, longPoll)
		default:
			pause = min(pause*2, restlessly)
		}
		if err := f.saveFloor(ctx); err != nil {
			return err
		}
		if err := rest(ctx, pause); err != nil {
			return err
		}
	}
}

// quietFor returns how long pos has not moved, by the tail or by an Offer.
func (f *follower) quietFor() time.Duration {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return time.Since(f.moved)
}

func rest(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read reads the tail once and settles what can be. gap says that ids below a known
// one are still open.
func (f *follower) read(ctx context.Context) (progress, gap bool, err error) {
	progress, full, known, err := f.readOnce(ctx)
	if err != nil {
		return false, false, err
	}
	if full && progress {
		return true, false, nil // there is more: read on at once
	}
	pos := f.at()
	if known <= pos {
		f.closeGap()
		return progress, false, nil
	}
	now := time.Now()
	if f.gapSince.IsZero() || f.gapAt != pos {
		f.openGap(now, pos)
	}
	young := now.Sub(f.gapSince) < gapAge && f.isReady()
	if young || now.Before(f.probeNext) {
		return progress, true, nil
	}
	f.probeWait = min(max(2*f.probeWait, minProbe), maxProbe)
	f.probeNext = now.Add(f.probeWait)
	if err := f.probe(ctx, known, pos); err != nil {
		return false, true, err
	}
	if f.tracker.floor <= pos {
		return progress, true, nil
	}
	again, _, known, err := f.readOnce(ctx)
	if err != nil {
		return false, true, err
	}
	gap = known > f.at()
	if !gap {
		f.closeGap()
	}
	return progress || again, gap, nil
}

// readOnce reads rows above pos in one snapshot and settles those that are contiguous
// with it or not above the tracker's floor. known is the highest id known to have been
// given.
func (f *follower) readOnce(ctx context.Context) (progress, full bool, known bus.ID, err error) {
	floor := f.tracker.floor
	req, held := f.ask()
	pos, from := req.After, req.After
	read, err := f.tail.Read(ctx, req)
	if err == nil && read.count() == 0 && len(req.Held) > 0 { // the last has expired and is gone
		read, err = f.tail.Read(ctx, TailRequest{After: pos, Channels: req.Channels})
	}
	if err != nil {
		return false, false, 0, fmt.Errorf("read the tail after %d: %w", pos, err)
	}
	rows, hollow, full := read.seen(held), read.Hollow, read.Full
	f.counts.reads.Add(1)
	f.found = len(rows) + len(hollow)
	known = max(f.target, highest(rows, hollow))
	if history(known) > history(max(pos, f.target)) {
		return false, false, 0, errNewHistory
	}
	if read.TrimmedTo > pos {
		f.skip(read.TrimmedTo)
		pos = f.at()
		rows = above(rows, pos)
	}
	n, h := 0, 0
	for n < len(rows) || h < len(hollow) {
		id, isHollow := lowest(rows[n:], hollow[h:])
		if id > pos+1 && id-1 > floor {
			break
		}
		pos = max(pos, id)
		if isHollow {
			h++
		} else {
			n++
		}
	}
	if n < len(rows) || h < len(hollow) || !full {
		pos = max(pos, floor) // what is missing up to the floor will never be
	}
	f.noteHead(known)
	progress = f.settle(settled{rows: rows[:n], hollow: hollow[:h], pos: pos, above: above(read.Notifications, pos)})
	if pos >= f.target {
		f.readies.Do(func() { close(f.ready) })
	}
	return progress || pos > from, full, known, nil
}

// A history's ids begin at a multiple of 2^32. Rows of a higher one than this connection
// knows mean that a history may have begun under it, without an end of the server:
// connecting again tells which, before any cursor moves over its boundary
// (TestHistoryThatBeganUnderALiveNodeIsTold).
var errNewHistory = errors.New("ids have reached another multiple of 2^32")

func history(id bus.ID) bus.ID { return id >> 32 }

// ask returns what to read next, and what is held above pos. That is not read again, but for
// the last: with it comes how far retention has got (TestTrimmedBelowWhatIsHeldIsTold).
func (f *follower) ask() (req TailRequest, held []*bus.Notification) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held = f.early.held(max(f.pos, f.target))
	return TailRequest{After: f.pos, Held: held[:max(0, len(held)-1)], Channels: f.window.ask(time.Now())}, held
}

func (f *follower) at() bus.ID {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.pos
}

func (f *follower) isReady() bool {
	select {
	case <-f.ready:
		return true
	default:
		return false
	}
}

func (f *follower) noteHead(known bus.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = max(f.head, known)
	f.given = max(f.given, known)
}

// probe asks who may still commit ids. Only a read that begins later may use what the
// tracker learns.
func (f *follower) probe(ctx context.Context, known, pos bus.ID) error {
	holders, err := f.tail.Holders(ctx)
	if err != nil {
		return fmt.Errorf("read the holders: %w", err)
	}
	f.counts.probes.Add(1)
	f.tracker.observe(holders, known, pos)
	if time.Since(f.gapSince) >= heldShown {
		f.setLink(func(l *link) { l.holders = holders })
	}
	return nil
}

func (f *follower) openGap(now time.Time, pos bus.ID) {
	f.gapSince, f.gapAt, f.probeNext, f.probeWait = now, pos, time.Time{}, 0
	f.setLink(func(l *link) { l.held, l.holders = now, nil })
}

func (f *follower) closeGap() {
	if f.gapSince.IsZero() {
		return
	}
	f.gapSince = time.Time{}
	f.setLink(func(l *link) { l.held, l.holders = time.Time{}, nil })
}

// saveFloor records pos when it has moved, at most once in floorEvery.
func (f *follower) saveFloor(ctx context.Context) error {
	pos := f.at()
	if pos <= f.saved || time.Since(f.savedAt) < floorEvery {
		return nil
	}
	if err := f.tail.SaveFloor(ctx, pos); err != nil {
		return fmt.Errorf("record the floor %d: %w", pos, err)
	}
	f.saved, f.savedAt = pos, time.Now()
	return nil
}
