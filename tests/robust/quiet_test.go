package robust

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/proxy"
	"github.com/postbus/postbus/tests/robust/bug"
)

// quietName is what the planted bugs call TestNoWakeUpIsLost.
const quietName = "quiet"

// G10: no message waits for the next one to be delivered.
func TestNoWakeUpIsLost(t *testing.T) {
	seed, lasts, _ := settings(t)
	program := os.Getenv("POSTBUS_ROBUST_PROGRAM")
	if program == "" {
		program = bug.Deaf().Build(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), lasts+3*longest)
	defer cancel()
	q := &quiet{chance: generator(seed, quietName), direct: pgtest.Database(t)}
	for i, name := range []string{"a", "b"} {
		p, err := proxy.Start(q.direct)
		must(t, err)
		n := &node{name: name, network: p, program: program}
		t.Cleanup(func() {
			if err := n.kill(); err != nil {
				t.Error(err)
			}
			p.Close()
			n.report(t)
		})
		must(t, n.start(ctx))
		if i > 0 { // what lies between two statements is longer for one of them
			p.Set(proxy.Weather{Delay: time.Millisecond})
		}
		q.nodes = append(q.nodes, n)
	}
	violation, err := q.run(ctx, lasts)
	must(t, err)
	t.Logf("seed %d, %v, %d rounds", seed, lasts, q.rounds)
	if violation != "" {
		t.Errorf("prompt: broken in 1 ways\n%s", violation)
	}
}

// A quiet run looks for lost wake-ups. It is a conversation: something is sent in one of the
// ways that there are, every reader must be given it before the next is sent, and between
// the two lies about the time that a node needs to fall asleep. No later message wakes a
// reader that has missed one, and in a program without the fallback read nothing else does:
// what is missed stays missed, however long the bound is. Each round begins with some
// messages at once, for a single one does not wake a node for good. (Prepared
// transactions are not among the ways: one whose bell is off rings no bell, as
// docs/operations.md says.)
type quiet struct {
	chance *rand.Rand
	nodes  []*node
	direct string // the database's URL, past the proxies
	given  []*listener
	rounds int
}

const (
	quietChannel = "quiet"
	quietStreams = 10               // on each node
	quietPolls   = 10               // on each node, one after the other
	stalled      = 15 * time.Second // no reader of a sound program stands still for so long
	quietLarge   = 1000             // messages of a Send that takes its time
	quietRow     = 50               // Sends one after the other
)

// A listener is one stream, or polls one after the other: the types of the messages that it has been given.
type listener struct {
	name  string
	types chan string
}

// listen begins to read. It ends with ctx; the returned function waits for that.
func (q *quiet) listen(ctx context.Context) (wait func(), err error) {
	var all sync.WaitGroup
	for _, n := range q.nodes {
		for i := range quietStreams + quietPolls {
			kind, begin := "stream", open
			if i >= quietStreams {
				kind, begin = "poll", poll
			}
			next, err := begin(ctx, n.up())
			if err != nil {
				return all.Wait, err
			}
			l := &listener{fmt.Sprintf("%s %d on node %s", kind, i, n.name), make(chan string, 8*quietLarge)}
			q.given = append(q.given, l)
			all.Go(func() { l.read(ctx, next) })
		}
	}
	return all.Wait, nil
}

// A response is of a stream or of a poll.
type response interface {
	GetNotifications() []*postbusv1.Notification
}

// poll reads from now on by polls, each of which goes on behind the one before.
func poll(ctx context.Context, l *life) (next func() (response, error), err error) {
	request := &postbusv1.PollRequest{Channels: []string{quietChannel}, Timeout: durationpb.New(0), Max: proto.Int32(1000)}
	next = func() (response, error) {
		answer, err := l.bus.Poll(ctx, request)
		if err == nil {
			request.After = proto.Int64(answer.GetLast())
		}
		return answer, err
	}
	for {
		if _, err = next(); err == nil {
			request.Timeout = durationpb.New(50 * time.Second)
			return next, nil
		}
		if !rest(ctx, 50*time.Millisecond) {
			return nil, err
		}
	}
}

// open opens a stream, when the node has its position, and takes the first response: from
// now on nothing is missed.
func open(ctx context.Context, l *life) (next func() (response, error), err error) {
	for {
		stream, err := l.bus.Subscribe(ctx, &postbusv1.SubscribeRequest{
			Channels: []string{quietChannel}, Heartbeat: durationpb.New(50 * time.Second),
		})
		if err == nil {
			if _, err = stream.Recv(); err == nil {
				return func() (response, error) { return stream.Recv() }, nil
			}
		}
		if !rest(ctx, 50*time.Millisecond) {
			return nil, err
		}
	}
}

func (l *listener) read(ctx context.Context, next func() (response, error)) {
	defer close(l.types)
	for {
		came, err := next()
		if err != nil {
			return
		}
		for _, n := range came.GetNotifications() {
			select {
			case l.types <- n.GetType():
			case <-ctx.Done():
				return
			}
		}
	}
}

// run talks until the time is over, and returns what stood still, if anything did.
func (q *quiet) run(ctx context.Context, long time.Duration) (violation string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	wait, err := q.listen(ctx)
	defer func() { cancel(); wait() }()
	if err != nil {
		return "", fmt.Errorf("begin to read: %w", err)
	}
	conn, err := pgx.Connect(ctx, q.direct)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for end := time.Now().Add(long); time.Now().Before(end) && violation == ""; q.rounds++ {
		types := q.types("awake", 2+q.chance.IntN(5))
		if err := q.burst(ctx, types); err != nil {
			return "", fmt.Errorf("round %d: %w", q.rounds, err)
		}
		if violation, err = q.await("some Sends at once", types); violation != "" || err != nil {
			break
		}
		q.pause(0, 30)
		way, types, err := q.send(ctx, conn)
		if err != nil {
			return "", fmt.Errorf("round %d, %s: %w", q.rounds, way, err)
		}
		if violation, err = q.await(way, types); err != nil {
			return "", err
		}
	}
	return violation, err
}

// await waits until every reader was given all types; a violation is one that was not.
func (q *quiet) await(way string, types []string) (violation string, err error) {
	over := time.NewTimer(stalled)
	defer over.Stop()
	for _, l := range q.given {
		missing, err := l.await(types, over.C)
		if err != nil {
			return "", err
		}
		if missing > 0 {
			return fmt.Sprintf("round %d: sent by %s, and %s was not given %d of its %d messages within %v",
				q.rounds, way, l.name, missing, len(types), stalled), nil
		}
	}
	return "", nil
}

// await reads until all types have come, or over says that it is too late.
func (l *listener) await(types []string, over <-chan time.Time) (missing int, err error) {
	wanted := make(map[string]bool, len(types))
	for _, name := range types {
		wanted[name] = true
	}
	for len(wanted) > 0 {
		select {
		case name, more := <-l.types:
			if !more {
				return 0, fmt.Errorf("%s has ended", l.name)
			}
			delete(wanted, name)
		case <-over:
			return len(wanted), nil
		}
	}
	return 0, nil
}
