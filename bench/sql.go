//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const sqlWriters = 32

// sql measures postbus.send beside a plain INSERT, and beside what is written by hand
// without Postbus: INSERT and NOTIFY.
func (b *bench) sql(ctx context.Context) (err error) {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	n, err := startNode(ctx, b.program, r.nodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.end()) }()
	stop, err := listen(ctx, r.nodeURL, "bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	statement := func(text string) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) { return b.transactions(ctx, r, n, text) }
	}
	const call = "SELECT postbus.send('bench', $1)"
	const send, again, plain, notify = "postbus.send", "postbus.send, again", "INSERT", "INSERT and NOTIFY"
	e := experiment{
		title: "postbus.send in SQL",
		text: fmt.Sprintf("%d sessions, each statement prepared and a transaction of its own, 200 bytes of JSON, into the same table, while `postbus serve` follows it. "+
			"A session LISTENs for the NOTIFY.", sqlWriters),
		columns: []string{"transactions/s"},
		variants: []variant{
			{send, "", statement(call)},
			{plain, "", statement("INSERT INTO postbus.bus (channel, type, json) VALUES ('bench', '', $1)")},
			{notify, "", statement("WITH i AS (INSERT INTO postbus.bus (channel, type, json) VALUES ('bench', '', $1) RETURNING id) SELECT pg_notify('bench', '') FROM i")},
			{again, "", statement(call)},
		},
		ratios: []ratio{
			{"postbus.send / INSERT", "≥ 0.6", divide(send, plain, 0)},
			{"postbus.send / INSERT and NOTIFY", "≥ 2", divide(send, notify, 0)},
			{"postbus.send against itself", "", divide(again, send, 0)},
		},
	}
	return e.perform(ctx, b.reps, b.out)
}

// transactions measures how often many sessions can run one statement.
func (b *bench) transactions(ctx context.Context, r *rig, n *node, statement string) (sample, error) {
	sessions, end, err := connect(ctx, r.nodeURL, sqlWriters)
	if err != nil {
		return sample{}, err
	}
	defer end()
	body := payload()
	for _, session := range sessions {
		if _, err := session.Prepare(ctx, "write", statement); err != nil {
			return sample{}, err
		}
	}
	m, err := newMeter(n.process.pid(), r.postgres.PID())
	if err != nil {
		return sample{}, err
	}
	done, wall, err := hammer(ctx, sqlWriters, b.length, func(ctx context.Context, writer int) error {
		_, err := sessions[writer].Exec(ctx, "write", body)
		return err
	})
	if err != nil {
		return sample{}, err
	}
	return m.sample(float64(done) / wall.Seconds())
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
