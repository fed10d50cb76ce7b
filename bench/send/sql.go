//go:build unix

package send

import (
	"context"
	"errors"
	"fmt"

	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
)

// mainWriters is how many sessions the goals of postbus.send are for.
const mainWriters = 32

// SQL measures postbus.send beside a plain INSERT, and beside what is written by hand
// without Postbus: INSERT and NOTIFY.
func SQL(ctx context.Context, b *rig.Bench, writers int) (err error) {
	l, reps := load{writers, 1, b.Length}, b.Fewer()
	plainGoal, notifyGoal := "", ""
	if writers == mainWriters {
		l.length, reps = 2*b.Length, b.Reps
		plainGoal, notifyGoal = "≥ 0.7", "≥ 2"
	}
	r, err := b.NewRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End(ctx)) }()
	n, err := r.StartNode(ctx, r.NodeURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	stop, err := listen(ctx, r.NodeURL, "bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	statement := func(text string) func(context.Context) (compare.Sample, error) {
		return func(ctx context.Context) (compare.Sample, error) {
			return l.each(ctx, r.NodeURL, text, r.Postmaster(), n.PID())
		}
	}
	const call = "SELECT postbus.send('bench', $1)"
	const send, again, plain, notify = "postbus.send", "postbus.send, again", "INSERT", "INSERT and NOTIFY"
	e := compare.Experiment{
		Title: fmt.Sprintf("postbus.send in SQL, %s", plural(writers, "session")),
		Text: "Each statement prepared and a transaction of its own, 200 bytes of JSON, into the same table, while `postbus serve` follows it. " +
			"A session LISTENs for the NOTIFY.",
		Columns: rateColumns(),
		Variants: []compare.Variant{
			{Name: send, Run: statement(call)},
			{Name: plain, Run: statement(insertOne)},
			{Name: notify, Run: statement(insertRing)},
			{Name: again, Run: statement(call)},
		},
		Ratios: []compare.Ratio{
			{Name: "postbus.send / INSERT", Goal: plainGoal, Of: compare.Divide(send, plain, 0)},
			{Name: "postbus.send / INSERT and NOTIFY", Goal: notifyGoal, Of: compare.Divide(send, notify, 0)},
			{Name: "CPU a message, postbus.send / INSERT", Of: compare.Divide(send, plain, 1)},
			{Name: "postbus.send against itself", Of: compare.Divide(again, send, 0)},
		},
	}
	return e.Perform(ctx, reps, b.Out)
}
