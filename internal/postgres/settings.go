package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/db"
)

// Settings are the limits that SQL senders meet and every node should share.
type Settings struct {
	MaxBody      int // bytes of one payload
	Retention    time.Duration
	KeyRetention time.Duration
}

// maxRequest is the bytes of one postbus.send_messages, and of one Send.
const maxRequest = 4 << 20

// Settings reads what the database has.
func (d *DB) Settings(ctx context.Context) (Settings, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s, err := d.queries.Settings(ctx)
	if err != nil {
		return Settings{}, unavailable("read the settings", err)
	}
	return Settings{MaxBody: int(s.MaxBody), Retention: seconds(s.Retention), KeyRetention: seconds(s.KeyRetention)}, nil
}

// SaveSettings records s unless a node has recorded its own before; replace records it in any case.
func (d *DB) SaveSettings(ctx context.Context, s Settings, replace bool) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err := d.queries.SaveSettings(ctx, db.SaveSettingsParams{
		MaxBody: int32(s.MaxBody), MaxRequest: max(maxRequest, int32(s.MaxBody)), Retention: s.Retention.Seconds(),
		KeyRetention: s.KeyRetention.Seconds(), Replace: replace,
	})
	if err != nil {
		return unavailable("save the settings", err)
	}
	return nil
}

// recordSettings records this node's, and reports when the database has others.
func (d *DB) recordSettings(ctx context.Context) error {
	own := Settings{MaxBody: d.opts.MaxBody, Retention: d.opts.Retention, KeyRetention: d.opts.KeyRetention}
	if err := d.SaveSettings(ctx, own, false); err != nil {
		return err
	}
	recorded, err := d.Settings(ctx)
	if err != nil {
		return err
	}
	if recorded != own {
		d.opts.Logger.WarnContext(ctx, "this node's limits are not the recorded ones, which SQL senders meet",
			"recorded", fmt.Sprintf("%+v", recorded), "own", fmt.Sprintf("%+v", own))
	}
	return nil
}

// A StuckHolder is a transaction that may still commit ids, and whose it is.
type StuckHolder struct {
	Transaction string        // its virtual transaction id
	PID         int           // its server process; 0 when it is prepared
	GID         string        // the name it was prepared under
	Application string        // application_name of its session
	State       string        // of its session, "idle in transaction" for instance
	Age         time.Duration // of the transaction
}

// StuckHolders names the transactions that hold the tail up, the oldest first, at most 20.
func (d *DB) StuckHolders(ctx context.Context) ([]StuckHolder, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := d.queries.StuckHolders(ctx)
	if err != nil {
		return nil, unavailable("read the holders", err)
	}
	holders := make([]StuckHolder, len(rows))
	for i, r := range rows {
		holders[i] = StuckHolder{r.Transaction, int(r.Pid), r.Gid, r.Application, r.State, seconds(r.Age)}
	}
	return holders, nil
}

// PoolStats are the connections beside the tail's.
type PoolStats struct {
	Max, Total, Idle int32
	Waited           int64         // times that none was free at once
	WaitedFor        time.Duration // in all
}

// PoolStats returns the present numbers.
func (d *DB) PoolStats() PoolStats {
	s := d.pool.Stat()
	return PoolStats{s.MaxConns(), s.TotalConns(), s.IdleConns(), s.EmptyAcquireCount(), s.EmptyAcquireWaitTime()}
}
