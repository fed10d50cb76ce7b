package robust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/tests/proxy"
)

// A fault does something to the bus and, unless it says otherwise, mends it before it
// returns.
type fault func(ctx context.Context, r *run, random *rand.Rand) error

// disturb makes faults one after the other until ctx ends. A fault that has begun is
// mended all the same.
func (r *run) disturb(ctx context.Context, faults []fault) {
	random := generator(r.seed, "faults")
	for rest(ctx, 300*time.Millisecond+upTo(random, 2500*time.Millisecond)) {
		next := faults[random.IntN(len(faults))]
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*longest)
		r.fail(next(bounded, r, random))
		cancel()
	}
}

// anyNode picks one.
func (r *run) anyNode(random *rand.Rand) *node { return r.nodes[random.IntN(len(r.nodes))] }

// terminate ends sessions of the nodes that a condition on pg_stat_activity selects.
func (r *run) terminate(ctx context.Context, what, condition string) error {
	r.record.Fault("%s", what)
	return r.query(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND `+condition)
		return err
	})
}

// killListeners ends the sessions that sleep at the bell.
func killListeners(ctx context.Context, r *run, _ *rand.Rand) error {
	return r.terminate(ctx, "the sleeping LISTEN sessions are killed", `pid IN (SELECT l.pid FROM pg_locks l
		WHERE l.locktype = 'advisory' AND l.classid = 1346532723 AND l.mode = 'ShareLock' AND l.granted)`)
}

// killSessions ends sessions of nodes and applications at random.
func killSessions(ctx context.Context, r *run, random *rand.Rand) error {
	if chance(random, 30) {
		return r.terminate(ctx, "all sessions are killed", "true")
	}
	return r.terminate(ctx, "some sessions are killed", "random() < 0.4")
}

// killNode kills a node and starts it again.
func killNode(ctx context.Context, r *run, random *rand.Rand) error {
	n := r.anyNode(random)
	r.record.Fault("node %s is killed", n.name)
	if err := n.kill(); err != nil {
		return err
	}
	rest(ctx, upTo(random, 2*time.Second))
	err := n.start(ctx)
	r.record.Fault("node %s is up again", n.name)
	return err
}

// drainNode stops a node in an orderly way and starts it again.
func drainNode(ctx context.Context, r *run, random *rand.Rand) error {
	n := r.anyNode(random)
	r.record.Fault("node %s drains", n.name)
	if err := n.drain(); err != nil {
		return err
	}
	rest(ctx, upTo(random, 2*time.Second))
	err := n.start(ctx)
	r.record.Fault("node %s is up again", n.name)
	return err
}

// crashDatabase ends PostgreSQL without a checkpoint.
func crashDatabase(ctx context.Context, r *run, random *rand.Rand) error {
	r.record.Fault("the database stops immediately")
	return r.restart(ctx, random, r.server.StopImmediate)
}

// stopDatabase ends PostgreSQL in an orderly way.
func stopDatabase(ctx context.Context, r *run, random *rand.Rand) error {
	r.record.Fault("the database stops fast")
	return r.restart(ctx, random, r.server.StopFast)
}

func (r *run) restart(ctx context.Context, random *rand.Rand, stop func(context.Context) error) error {
	if err := stop(ctx); err != nil {
		return err
	}
	rest(ctx, upTo(random, 3*time.Second))
	err := r.server.Restart(ctx)
	r.record.Fault("the database is up again")
	return err
}

// restartPrepared ends PostgreSQL while a transaction of its own is prepared, which ends
// when the nodes are back: the server has another name for it then.
func restartPrepared(ctx context.Context, r *run, random *rand.Rand) error {
	name := fmt.Sprintf("preparer-%d", random.Uint32())
	s := &sqlSender{run: r, author: author{name: name, random: random, channels: r.channels(), habits: r.traffic}}
	defer s.disconnect()
	tx := transaction{letters: s.write(), isolation: "READ COMMITTED", end: commitPrepared, gid: name}
	tx.held = 300*time.Millisecond + upTo(random, 2*time.Second)
	tx.during = func() error {
		rest(ctx, 200*time.Millisecond) // the nodes come to know it
		if chance(random, 50) {
			return crashDatabase(ctx, r, random)
		}
		return stopDatabase(ctx, r, random)
	}
	if !s.connect() {
		return errors.New("no connection for a prepared transaction")
	}
	r.record.Send(s.perform(ctx, tx))
	return nil
}

// freezeDatabase stops all of PostgreSQL's processes for a while, sometimes for longer than
// any deadline of a read.
func freezeDatabase(ctx context.Context, r *run, random *rand.Rand) error {
	for_ := upTo(random, 7*time.Second)
	r.record.Fault("the database is frozen for %v", for_)
	if err := r.server.Freeze(); err != nil {
		return err
	}
	rest(ctx, for_)
	err := r.server.Thaw()
	r.record.Fault("the database goes on")
	return err
}

// weathers returns the fault of one kind of weather between a node and the database.
func weathers(name string, atLeast, atMost time.Duration, w proxy.Weather) fault {
	return func(ctx context.Context, r *run, random *rand.Rand) error {
		n, lasts := r.anyNode(random), atLeast+upTo(random, atMost-atLeast)
		r.record.Fault("node %s: %s for %v", n.name, name, lasts)
		n.network.Set(w)
		rest(ctx, lasts)
		n.network.Set(proxy.Weather{})
		r.record.Fault("node %s: the network is as it was", n.name)
		return nil
	}
}

// cutSlowNetwork cuts a network that has been slow: what is under way is lost, and much is.
func cutSlowNetwork(ctx context.Context, r *run, random *rand.Rand) error {
	n := r.anyNode(random)
	r.record.Fault("node %s: the network is slow, then cut", n.name)
	n.network.Set(proxy.Weather{Delay: 20 * time.Millisecond})
	rest(ctx, upTo(random, time.Second))
	n.network.Set(proxy.Weather{Cut: true})
	rest(ctx, upTo(random, time.Second))
	n.network.Set(proxy.Weather{})
	r.record.Fault("node %s: the network is as it was", n.name)
	return nil
}

var (
	cutNetwork   = weathers("the network is cut", 0, 3*time.Second, proxy.Weather{Cut: true})
	cutForLong   = weathers("the network is cut", 2*time.Second, 4*time.Second, proxy.Weather{Cut: true})
	stickNetwork = weathers("nothing moves on the network", 0, 7*time.Second, proxy.Weather{Stuck: true})
	slowNetwork  = weathers("the network is slow", 0, 3*time.Second, proxy.Weather{Delay: 15 * time.Millisecond})
	loseAnswers  = weathers("answers are lost", 0, 300*time.Millisecond, proxy.Weather{Losing: true})
)

// heal mends everything, whatever was left broken.
func (r *run) heal(ctx context.Context) error {
	var errs []error
	for _, n := range r.nodes {
		n.network.Set(proxy.Weather{})
	}
	for _, n := range r.nodes {
		if l := n.up(); l != nil {
			select {
			case <-l.Exited:
				errs = append(errs, fmt.Errorf("node %s ended by itself: %w", n.name, l.Err))
			default:
				continue
			}
		}
		errs = append(errs, n.start(ctx))
	}
	return errors.Join(errs...)
}
