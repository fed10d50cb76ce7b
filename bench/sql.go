//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
)

// mainWriters is how many sessions the goals of postbus.send are for.
const mainWriters = 32

// sql measures postbus.send beside a plain INSERT, and beside what is written by hand
// without Postbus: INSERT and NOTIFY.
func (b *bench) sql(ctx context.Context, writers int) (err error) {
	l, reps := load{writers, 1, b.length}, b.fewer()
	plainGoal, notifyGoal := "", ""
	if writers == mainWriters {
		l.length, reps = 2*b.length, b.reps
		plainGoal, notifyGoal = "≥ 0.7", "≥ 2"
	}
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
		return func(ctx context.Context) (sample, error) {
			return l.each(ctx, r.nodeURL, text, n.process.pid(), r.postgres.PID())
		}
	}
	const call = "SELECT postbus.send('bench', $1)"
	const send, again, plain, notify = "postbus.send", "postbus.send, again", "INSERT", "INSERT and NOTIFY"
	e := experiment{
		title: fmt.Sprintf("postbus.send in SQL, %s", plural(writers, "session")),
		text: "Each statement prepared and a transaction of its own, 200 bytes of JSON, into the same table, while `postbus serve` follows it. " +
			"A session LISTENs for the NOTIFY.",
		columns: rateColumns(),
		variants: []variant{
			{name: send, run: statement(call)},
			{name: plain, run: statement(insertOne)},
			{name: notify, run: statement(insertRing)},
			{name: again, run: statement(call)},
		},
		ratios: []ratio{
			{"postbus.send / INSERT", plainGoal, divide(send, plain, 0)},
			{"postbus.send / INSERT and NOTIFY", notifyGoal, divide(send, notify, 0)},
			{"CPU a message, postbus.send / INSERT", "", divide(send, plain, 1)},
			{"postbus.send against itself", "", divide(again, send, 0)},
		},
	}
	return e.perform(ctx, reps, b.out)
}
