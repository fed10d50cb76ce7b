package robust

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/tests/robust/history"
)

// A waker sends one message, waits until it has been read from every node, and sends the
// next when the nodes are about to fall asleep, or have. Nobody else sends: a bell that is
// not rung, or not heard, is made good by nobody but the fallback read, which counts it.
type waker struct {
	*sqlSender
	rpc *rpcSender
}

// wakes starts the one sender, and a reader on each node that stays there.
func (r *run) wakes(sending, reads context.Context, senders, readers *sync.WaitGroup) {
	for i, n := range r.nodes {
		r.reader(reads, readers, reading{name: "listens-" + n.name, channels: r.channels(), ways: streams, pinned: &i})
	}
	a := author{name: "waker", random: generator(r.seed, "waker"), channels: r.channels(), habits: r.traffic}
	w := &waker{sqlSender: &sqlSender{run: r, author: a}}
	w.rpc = &rpcSender{run: r, author: a}
	senders.Go(func() { w.work(sending) })
}

func (w *waker) work(ctx context.Context) {
	defer w.disconnect()
	for rest(ctx, 0) {
		sent := w.one(ctx)
		w.record.Send(sent)
		if sent.Outcome != history.Stored {
			w.fail(fmt.Errorf("the only sender: %s", sent.Fault))
			return
		}
		id, err := w.newest()
		if err != nil {
			w.fail(err)
			return
		}
		bounded, cancel := context.WithTimeout(ctx, longest)
		w.seen.await(bounded, len(w.nodes), id)
		cancel()
	}
}

// falling is a pause that ends about when a node falls asleep: 20 ms after it was busy, of
// which reading the message has taken some.
func falling(random *rand.Rand) time.Duration {
	return time.Duration(random.IntN(32_000)) * time.Microsecond
}

// one sends one message, in one of the ways that may find a node awake and commit when it
// sleeps.
func (w *waker) one(ctx context.Context) history.Send {
	tx := transaction{letters: []letter{w.letter(0)}, isolation: "READ COMMITTED", end: commit}
	switch w.random.IntN(5) {
	case 0: // over a node, which must wake the others
		rest(ctx, falling(w.random))
		return *w.rpc.try(request{way: "grpc", letters: tx.letters, patient: 10 * time.Second}, w.nodes[w.random.IntN(len(w.nodes))])
	case 1: // numbered, and the bell looked at, long before it commits
		tx.early, tx.before = true, sleepy(w.random)
	case 2: // its INSERT waits for a lock
		lasts := sleepy(w.random)
		var locked sync.WaitGroup
		defer locked.Wait()
		taken := make(chan struct{})
		locked.Go(func() { w.fail(w.lock(taken, lasts)) })
		<-taken
		tx.end = plain
	case 3:
		tx.end = plain
		fallthrough
	default:
		rest(ctx, falling(w.random))
	}
	return w.perform(ctx, tx)
}

// sleepy is a time in which a node that was busy falls asleep.
func sleepy(random *rand.Rand) time.Duration {
	return time.Duration(25+random.IntN(60)) * time.Millisecond
}

// lock locks the log for a while as CREATE INDEX does: reads go on and writes wait. It
// closes taken when it has the lock, or never will.
func (w *waker) lock(taken chan struct{}, lasts time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	var once sync.Once
	ready := func() { once.Do(func() { close(taken) }) }
	defer ready()
	return w.query(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "BEGIN; LOCK TABLE postbus.bus IN SHARE MODE"); err != nil {
			return err
		}
		ready()
		rest(ctx, lasts)
		_, err := conn.Exec(ctx, "COMMIT")
		return err
	})
}

// newest returns the highest id; there is no other sender.
func (w *waker) newest() (id int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	if w.conn == nil && !w.connect() {
		return 0, fmt.Errorf("no connection")
	}
	rows, err := w.conn.Query(ctx, "SELECT max(id) FROM postbus.bus")
	if err != nil {
		return 0, err
	}
	return pgx.CollectOneRow(rows, pgx.RowTo[int64])
}

// seen is how far somebody has read from each node.
type seen struct {
	mu   sync.Mutex // guards what follows
	last map[int]int64
	more chan struct{} // closed when something moves
}

func (s *seen) note(node int, last int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[int]int64{}
	}
	s.last[node] = max(s.last[node], last)
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
}

// await waits until somebody has read up to id from each of n nodes; false: ctx is over.
func (s *seen) await(ctx context.Context, n int, id int64) bool {
	for {
		s.mu.Lock()
		there := 0
		for node := range n {
			if s.last[node] >= id {
				there++
			}
		}
		if s.more == nil {
			s.more = make(chan struct{})
		}
		more := s.more
		s.mu.Unlock()
		if there == n {
			return true
		}
		select {
		case <-more:
		case <-ctx.Done():
			return false
		}
	}
}
