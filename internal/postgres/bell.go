package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// hear is told every notification that arrives, during whatever statement: the bell is kept for the next Wait.
func (t *tail) hear(channel string) {
	switch channel {
	case "postbus":
		t.rang = true
	case t.own:
		t.heard = true
	}
}

// CanSleep says whether the connection has a session of its own.
func (t *tail) CanSleep() bool { return !t.pooled }

// Arm makes every sender ring from now on: while the slots of the bell are shared here, none can be had exclusively.
func (t *tail) Arm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := t.queries.Arm(ctx); err != nil {
		return unavailable("arm the bell", err)
	}
	return nil
}

// Disarm ends Arm.
func (t *tail) Disarm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := t.queries.Disarm(ctx); err != nil {
		return unavailable("disarm the bell", err)
	}
	return nil
}

// Wait blocks until the bell rings, for at most timeout. Rings since the last Wait count, and several are one.
func (t *tail) Wait(ctx context.Context, timeout time.Duration) (bool, error) {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for !t.rang {
		if err := t.conn.PgConn().WaitForNotification(waiting); err != nil {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if waiting.Err() != nil && errors.Is(err, context.DeadlineExceeded) && !t.conn.IsClosed() {
				return false, nil
			}
			return false, unavailable("listen", err)
		}
	}
	t.rang = false
	return true, nil
}

// Check proves that the connection hears: what it sends to itself must arrive.
func (t *tail) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	t.heard = false
	if _, err := t.conn.Exec(ctx, "NOTIFY "+t.own); err != nil {
		return unavailable("ring the own bell", err)
	}
	for !t.heard {
		if err := t.conn.PgConn().WaitForNotification(ctx); err != nil {
			return unavailable(fmt.Sprintf("hear the own bell within %s", checkTimeout), err)
		}
	}
	return nil
}
