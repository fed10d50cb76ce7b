package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
)

// A batch of retention should take less than trimTarget: while it runs it is one of the transactions that the tail of
// every node must wait for at a gap.
const (
	trimTarget = 50 * time.Millisecond
	minTrim    = 50 // rows
	maxTrim    = 5000
)

// Trim removes what has outlived the retention, and keys and messages that have expired, until ctx ends; it returns nil then. Of
// several nodes one works at a time, and none waits for another or for a sender. An idle table costs one query each interval.
func (d *DB) Trim(ctx context.Context) error {
	interval := max(min(d.opts.Retention/10, 30*time.Second), time.Second)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	rows := int32(1000)
	for {
		if err := d.trimOverdue(ctx, &rows); err != nil && ctx.Err() == nil {
			d.opts.Logger.WarnContext(ctx, "retention failed; it is tried again", "error", err, "after", interval)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// trimOverdue removes batch after batch until nothing is overdue or another node is at it. rows is the size of a batch, which it
// adapts to the time that batches take.
func (d *DB) trimOverdue(ctx context.Context, rows *int32) error {
	for ctx.Err() == nil {
		asked, cancel := context.WithTimeout(ctx, readTimeout)
		overdue, err := d.queries.Overdue(asked, d.opts.Retention.Seconds())
		cancel()
		if err != nil {
			return unavailable("look for what is overdue", err)
		}
		if !overdue {
			return nil
		}
		began := time.Now()
		trimmed, err := d.TrimBatch(ctx, *rows)
		if err != nil {
			return err
		}
		switch took := time.Since(began); {
		case took > trimTarget:
			*rows = max(*rows/2, minTrim)
		case took < trimTarget/4:
			*rows = min(*rows*2, maxTrim)
		}
		if !trimmed.Mine || trimmed.Messages+trimmed.Expired+trimmed.Keys == 0 {
			return nil
		}
	}
	return nil
}

// Trimmed is what one batch removed.
type Trimmed struct {
	Mine      bool // no other node was at it
	Messages  int64
	TrimmedTo bus.ID // 0: not moved
	Expired   int64  // messages whose ttl was over: no gap
	Keys      int64
}

// TrimBatch removes at most rows of each kind, in one transaction: messages in id order while they are older than the
// retention, and only settled ones.
func (d *DB) TrimBatch(ctx context.Context, rows int32) (t Trimmed, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		q := db.New(tx)
		// What a crash brings back is removed again, trimmed_to with it.
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
			return err
		}
		if t.Mine, err = q.TryTrimLock(ctx); err != nil || !t.Mine {
			return err
		}
		if t.Keys, err = q.SweepKeys(ctx, rows); err != nil {
			return err
		}
		if t.Expired, err = q.SweepExpired(ctx, rows); err != nil {
			return err
		}
		oldest, err := q.TrimOldest(ctx, db.TrimOldestParams{Retention: d.opts.Retention.Seconds(), Rows: rows})
		if err != nil || oldest.Removed == 0 {
			return err
		}
		t.Messages, t.TrimmedTo = oldest.Removed, bus.ID(oldest.TrimmedTo)
		return q.SaveTrimmed(ctx, oldest.TrimmedTo)
	})
	if err != nil {
		return Trimmed{}, unavailable("remove what is overdue", err)
	}
	return t, nil
}
