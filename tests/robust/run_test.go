// Package robust drives the whole bus, real nodes on a real PostgreSQL, with random
// traffic under faults, writes down what everybody was told (package history), and
// judges it by the promises (package validate). docs/guarantees.md has the promises.
//
// A run is decided by its seed: each worker draws its decisions from a generator of its
// own, so that the same seed means the same traffic and the same faults; how they meet is
// the machine's affair.
//
//	go test ./tests/robust -run 'TestRobust/kill-node' -seed 7 -duration 30s
//
// ROBUST_SEED and ROBUST_TIME are the same; ROBUST_DIR is where the history of a failed
// run goes; POSTBUS_ROBUST_PROGRAM is the program under test, by default built with the
// race detector.
//
// Clocks: this machine's is the database's too, and nobody steps it. Order and cursors
// know no clock. sent_at is informative. A ttl is judged by the database's clock when a
// page is read and by the node's in its window; a step of either hides a message early or
// late by that much, which is no gap, and moves retention by as much, which is one.
package robust

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded"
	"github.com/postbus/postbus/tests/robust/history"
)

// heartbeat is the shortest that streams may ask for.
const heartbeat = time.Second

// A run is one scenario under way.
type run struct {
	seed    uint64
	traffic traffic
	server  *embedded.Server
	disk    *disk  // that the server is on; nil: an ordinary one
	url     string // of the database, directly
	nodes   []*node
	record  *history.Recorder
	head    atomic.Int64 // what readers must come to before they end; -1 while traffic goes on
	seen    seen

	mu   sync.Mutex // guards errs
	errs []error    // faults that could not be made or mended
}

// A traffic is how much is sent, of what kind. The numbers without a unit are in a
// hundred.
type traffic struct {
	rpc, sql int // senders
	channels int
	keyed    int
	mortal   int // messages with a short ttl
	large    int
	bulk     int // bytes of the largest
	stalling int // more readers that stall
	poisoned int
	early    int           // transactions that are numbered before they end
	prepared int           // transactions that are prepared
	held     time.Duration // at most, prepared
	rhythm   time.Duration // the longest pause of a sender between two sends
	away     time.Duration // the longest pause of a reader between two legs
}

// pause is a sender's before a send.
func (t traffic) pause(random *rand.Rand) time.Duration { return upTo(random, t.rhythm) }

// rest waits; false: ctx is over.
func rest(ctx context.Context, pause time.Duration) bool {
	if pause <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fail notes that the run itself went wrong.
func (r *run) fail(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// channels returns the names that senders send to.
func (r *run) channels() []string {
	names := make([]string, r.traffic.channels)
	for i := range names {
		names[i] = fmt.Sprintf("channel-%d", i)
	}
	return names
}

// senders starts the senders; they end with ctx.
func (r *run) senders(ctx context.Context, group *sync.WaitGroup) {
	write := func(name string) author {
		return author{name: name, random: generator(r.seed, name), channels: r.channels(), habits: r.traffic}
	}
	for i := range r.traffic.rpc {
		s := &rpcSender{run: r, author: write(fmt.Sprintf("rpc%d", i))}
		group.Go(func() { s.work(ctx) })
	}
	for i := range r.traffic.sql {
		s := &sqlSender{run: r, author: write(fmt.Sprintf("sql%d", i))}
		group.Go(func() { s.work(ctx) })
	}
}

// readers starts the readers; they end at the head, or with ctx.
func (r *run) readers(ctx context.Context, group *sync.WaitGroup) {
	all := r.channels()
	many := make([]string, 0, 200)
	for i := range 200 - len(all) {
		many = append(many, fmt.Sprintf("quiet-%d", i))
	}
	many = append(many, all...)
	half := all[:(len(all)+1)/2]
	for _, c := range []reading{
		{name: "wanders", channels: all, ways: ways},
		{name: "wanders-half", channels: half, ways: ways},
		{name: "wanders-now", channels: all, ways: ways, after: history.Absent},
		{name: "wanders-one", channels: all[:1], ways: ways, after: history.Absent},
		{name: "polls", channels: half, ways: polls},
		{name: "polls-rare", channels: all[len(all)-1:], ways: polls},
		{name: "streams", channels: all, ways: streams},
		{name: "streams-many", channels: many, ways: streams, after: history.Absent},
		{name: "sql", channels: all, ways: []string{sqlPoll}},
		{name: "stalls", channels: all, ways: []string{grpcStream}, stall: 1500 * time.Millisecond},
		{name: "stalls-briefly", channels: all, ways: []string{grpcStream}, stall: 300 * time.Millisecond},
		{name: "stalls-half", channels: half, ways: []string{jsonStream}, stall: 300 * time.Millisecond},
		{name: "stalls-events", channels: half, ways: []string{eventStream}, stall: 100 * time.Millisecond},
		{name: "stalls-socket", channels: all, ways: []string{webSocket}, stall: 300 * time.Millisecond},
	} {
		r.reader(ctx, group, c)
	}
	for i := range r.traffic.stalling {
		r.reader(ctx, group, reading{name: fmt.Sprintf("stalls-%d", i), channels: all, ways: streams, stall: time.Second})
	}
}

// A reading is what kind of reader one is.
type reading struct {
	name     string
	channels []string
	ways     []string
	after    int64
	stall    time.Duration
	pinned   *int
}

// reader starts one reader.
func (r *run) reader(ctx context.Context, group *sync.WaitGroup, c reading) {
	reads := &reader{
		run: r, Chain: history.Chain{Name: c.name, Channels: c.channels}, random: generator(r.seed, c.name),
		ways: c.ways, first: c.after, after: c.after, stall: c.stall, pinned: c.pinned,
	}
	r.record.Chain(reads.Chain)
	group.Go(func() { reads.work(ctx) })
}

// query runs statements on the database, as an operator.
func (r *run) query(ctx context.Context, use func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return use(conn)
}
