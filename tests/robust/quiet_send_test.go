package robust

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// pause lets a random time pass, in milliseconds: a node falls asleep after 20.
func (q *quiet) pause(low, high int) {
	rest(context.Background(), time.Duration(low*1000+q.chance.IntN(1000*(high-low)))*time.Microsecond)
}

// send sends in one of the ways and returns when it has committed.
func (q *quiet) send(ctx context.Context, conn *pgx.Conn) (way string, types []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	switch q.chance.IntN(5) {
	case 0:
		way = "one Send"
		types = q.types("", 1)
		err = q.rpc(ctx, types, false)
	case 1:
		way = "a large Send with keys"
		types = q.types("", quietLarge)
		err = q.rpc(ctx, types, true)
	case 2:
		way = "many Sends in a row"
		types = q.types("", 4*quietRow)
		err = q.rows(ctx, types)
	case 3:
		way = "an open transaction"
		types = q.types("", 1)
		err = q.transaction(ctx, conn, types[0], "")
	default:
		way = "a transaction numbered early"
		types = q.types("", 1)
		err = q.transaction(ctx, conn, types[0], "SET CONSTRAINTS ALL IMMEDIATE")
	}
	return way, types, err
}

func (q *quiet) types(prefix string, n int) []string {
	types := make([]string, n)
	for i := range types {
		types[i] = fmt.Sprintf("%s%d-%d", prefix, q.rounds, i)
	}
	return types
}

// rpc sends by the first node.
func (q *quiet) rpc(ctx context.Context, types []string, keys bool) error {
	req := &postbusv1.SendRequest{}
	for _, name := range types {
		m := &postbusv1.Message{Channel: quietChannel, Type: name}
		if keys {
			m.Key = name
		}
		req.Messages = append(req.Messages, m)
	}
	_, err := q.nodes[0].up().bus.Send(ctx, req)
	return err
}

// burst sends every message by a request of its own, all at once.
func (q *quiet) burst(ctx context.Context, types []string) error {
	errs := make([]error, len(types))
	var all sync.WaitGroup
	for i, name := range types {
		all.Go(func() { errs[i] = q.rpc(ctx, []string{name}, false) })
	}
	all.Wait()
	return firstOf(errs)
}

// rows sends the messages in four rows, each message after the one before it: wake-ups
// come as fast as a stream reads.
func (q *quiet) rows(ctx context.Context, types []string) error {
	errs := make([]error, len(types))
	var all sync.WaitGroup
	for first := 0; first < len(types); first += quietRow {
		all.Go(func() {
			for i := first; i < first+quietRow; i++ {
				errs[i] = q.rpc(ctx, types[i:i+1], false)
			}
		})
	}
	all.Wait()
	return firstOf(errs)
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// transaction sends one message, does then, and lets time pass before it commits.
func (q *quiet) transaction(ctx context.Context, conn *pgx.Conn, name, then string) error {
	if _, err := conn.Exec(ctx, "BEGIN; SELECT postbus.send('"+quietChannel+"', '1', type => '"+name+"');"+then); err != nil {
		return err
	}
	q.pause(0, 60)
	_, err := conn.Exec(ctx, "COMMIT")
	return err
}
