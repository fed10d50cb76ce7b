//go:build unix

package send

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
)

// writers is how many statements a node's writer keeps in flight
// (groupcommit.Options.InFlight).
const writers = 2

// The statements that Postbus is compared with; each is a transaction of its own.
const (
	insertMany = "INSERT INTO postbus.bus (channel, type, json) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])"
	insertOne  = "INSERT INTO postbus.bus (channel, type, json) VALUES ('bench', '', $1)"
	insertRing = "WITH i AS (INSERT INTO postbus.bus (channel, type, json) VALUES ('bench', '', $1) RETURNING id) SELECT pg_notify('bench', '') FROM i"
)

// inserts measures bare INSERTs of mean rows, in statements that commit by themselves. No
// more are in flight than a node has, or than there are callers.
func (l load) inserts(ctx context.Context, r *rig.Rig, mean float64) (compare.Sample, error) {
	atOnce := min(writers, l.callers)
	sessions, end, err := connect(ctx, r.PlainURL, atOnce, insertMany)
	if err != nil {
		return compare.Sample{}, err
	}
	defer end()
	most := int(mean) + 1
	channels, types, bodies := make([]string, most), make([]string, most), make([]string, most)
	for i := range most {
		channels[i], bodies[i] = fmt.Sprintf("bench-%d", i%l.callers), rig.Payload()
	}
	m, err := rig.NewMeter(r.Postmaster())
	if err != nil {
		return compare.Sample{}, err
	}
	var statements, stored atomic.Int64
	_, wall, err := hammer(ctx, atOnce, l.length, func(ctx context.Context, writer int) error {
		n := rowsOf(statements.Add(1)-1, mean)
		stored.Add(int64(n))
		_, err := sessions[writer].Exec(ctx, prepared, channels[:n], types[:n], bodies[:n])
		return err
	})
	if err != nil {
		return compare.Sample{}, err
	}
	s, err := m.Sample()
	rows, spent := float64(stored.Load()), s.CPU.Total().Seconds()
	s.Figures = []float64{rows / wall.Seconds(), 1e6 * spent / rows, spent / s.Wall.Seconds(), rows / float64(statements.Load())}
	return s, err
}

// each measures a statement that stores one message and commits, in a session for each
// caller.
func (l load) each(ctx context.Context, address, statement string, postmaster int, servers ...int) (compare.Sample, error) {
	sessions, end, err := connect(ctx, address, l.callers, statement)
	if err != nil {
		return compare.Sample{}, err
	}
	defer end()
	body := rig.Payload()
	m, err := rig.NewMeter(postmaster, servers...)
	if err != nil {
		return compare.Sample{}, err
	}
	l.size = 1
	return l.measure(ctx, m, func(ctx context.Context, caller int) error {
		_, err := sessions[caller].Exec(ctx, prepared, body)
		return err
	})
}

// rowsOf returns how many rows the i-th statement has, so that all of them together have
// the given mean and none is empty.
func rowsOf(i int64, mean float64) int {
	mean = max(mean, 1)
	return int(int64(float64(i+1)*mean) - int64(float64(i)*mean))
}

// prepared is the name of the statement in the sessions of connect.
const prepared = "write"

// connect opens n sessions and prepares statement in each; end closes them.
func connect(ctx context.Context, address string, n int, statement string) (sessions []*pgx.Conn, end func(), err error) {
	end = func() {
		for _, session := range sessions {
			session.Close(context.WithoutCancel(ctx))
		}
	}
	for range n {
		session, err := pgx.Connect(ctx, address)
		if err == nil {
			sessions = append(sessions, session)
			_, err = session.Prepare(ctx, prepared, statement)
		}
		if err != nil {
			end()
			return nil, nil, err
		}
	}
	return sessions, end, nil
}

// listen reads a NOTIFY channel, as somebody would, until stop is called.
func listen(ctx context.Context, address, channel string) (stop func() error, err error) {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	listening, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := conn.WaitForNotification(listening); err != nil {
				if listening.Err() != nil {
					err = nil
				}
				ended <- err
				return
			}
		}
	}()
	return func() error {
		cancel()
		return errors.Join(<-ended, conn.Close(context.WithoutCancel(ctx)))
	}, nil
}
