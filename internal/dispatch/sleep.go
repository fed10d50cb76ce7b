package dispatch

import (
	"context"
	"fmt"
	"time"
)

// sleep blocks until messages flow again. A message is not missed: its sender looks at
// the bell after its INSERT. If it looked after Arm, it rang, and what it inserted is
// visible when the ring arrives. If it looked before, it held the lock then: either it
// is among the first holders, and their end is waited for, or it had ended; the last
// read shows it either way.
func (f *follower) sleep(ctx context.Context) error {
	if err := f.tail.Arm(ctx); err != nil {
		return fmt.Errorf("arm the bell: %w", err)
	}
	awake, err := f.fallAsleep(ctx)
	if err != nil {
		return err
	}
	if !awake {
		f.setLink(func(l *link) { l.sleeping = true })
		err = f.listen(ctx)
		f.setLink(func(l *link) { l.sleeping = false })
		if err != nil {
			return err
		}
	}
	if err := f.tail.Disarm(ctx); err != nil {
		return fmt.Errorf("disarm the bell: %w", err)
	}
	return nil
}

// fallAsleep waits for the holders of the moment and reads once more; awake says that
// something moved meanwhile.
func (f *follower) fallAsleep(ctx context.Context) (awake bool, err error) {
	before, err := f.tail.Holders(ctx)
	if err != nil {
		return false, fmt.Errorf("read the holders: %w", err)
	}
	pause := shortPoll
	for {
		progress, gap, err := f.read(ctx)
		if err != nil || progress || gap {
			return true, err
		}
		if len(before) == 0 {
			return false, nil
		}
		if err := rest(ctx, pause); err != nil {
			return false, err
		}
		pause = min(2*pause, maxProbe)
		now, err := f.tail.Holders(ctx)
		if err != nil {
			return false, fmt.Errorf("read the holders: %w", err)
		}
		before = intersect(before, now)
		if err := f.saveFloor(ctx); err != nil {
			return false, err
		}
	}
}

// intersect returns those of before that are still among now.
func intersect(before, now []Holder) []Holder {
	still := make(map[string]bool, len(now))
	for _, h := range now {
		still[h.Transaction] = true
	}
	kept := before[:0]
	for _, h := range before {
		if still[h.Transaction] {
			kept = append(kept, h)
		}
	}
	return kept
}

// listen waits for the bell, and reads when it rings, until messages flow or a gap is
// open.
func (f *follower) listen(ctx context.Context) error {
	var lastBell time.Time
	lastRead := time.Now()
	for {
		if err := f.saveFloor(ctx); err != nil {
			return err
		}
		now := time.Now()
		wait := min(f.opts.Fallback-now.Sub(lastRead), checkEvery-now.Sub(f.checkedAt))
		if f.at() > f.saved {
			wait = min(wait, floorEvery-now.Sub(f.savedAt))
		}
		rang := false
		if wait > 0 {
			var err error
			if rang, err = f.tail.Wait(ctx, wait); err != nil {
				return fmt.Errorf("wait for the bell: %w", err)
			}
		}
		now = time.Now()
		if !rang && now.Sub(f.checkedAt) >= checkEvery {
			if err := f.tail.Check(ctx); err != nil {
				return fmt.Errorf("the connection does not hear: %w", err)
			}
			f.checkedAt = time.Now()
		}
		if !rang && now.Sub(lastRead) < f.opts.Fallback {
			continue
		}
		progress, gap, err := f.read(ctx)
		if err != nil {
			return err
		}
		lastRead = time.Now()
		if gap {
			return nil
		}
		if !rang {
			if progress {
				f.counts.missedBells.Add(1)
			}
			continue
		}
		f.counts.bells.Add(1)
		f.checkedAt = now
		if now.Sub(lastBell) < bellRush {
			return nil
		}
		lastBell = now
	}
}
