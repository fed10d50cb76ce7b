package tests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postbus/postbus/client"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A load is senders of every kind, and what became of their messages.
type load struct {
	t   testing.TB
	n   *node
	url string

	mu       sync.Mutex // guards what follows
	answered map[string]bool
	refused  map[string]bool // said to be certainly not stored
	order    [][]string      // of each sender, what was answered
}

func (l *load) note(sender int, text string, answered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !answered {
		l.refused[text] = true
		return
	}
	l.answered[text] = true
	l.order[sender] = append(l.order[sender], text)
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answered)
}

// disturbed runs a load on n and at url, and disturb so many times, each once the load runs.
// When it runs again after the last it is ended, by a message "end".
func disturbed(t *testing.T, n *node, url string, times int, disturb func()) *load {
	t.Helper()
	l := &load{t: t, n: n, url: url, answered: map[string]bool{}, refused: map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx) }()
	runs := func() {
		t.Helper()
		before := l.count()
		until(t, "the load runs", func() bool { return l.count() > before+200 })
	}
	for range times {
		runs()
		disturb()
	}
	runs()
	cancel()
	<-done
	_, err := n.client.Send(short(t), client.Message{Channel: "load", Payload: []byte(`"end"`), Key: client.NewKey()})
	must(t, err)
	return l
}

// check wants delivered to be what was answered, once and in order, and nothing that was
// refused.
func (l *load) check(t *testing.T, delivered []string) {
	t.Helper()
	checkDelivered(t, delivered, l.answered, l.refused)
	for _, order := range l.order {
		inOrder(t, delivered, order)
	}
}

// run sends until ctx ends; what is under way then is still finished.
func (l *load) run(ctx context.Context) {
	var senders sync.WaitGroup
	defer senders.Wait()
	l.order = make([][]string, 4)
	senders.Go(func() { l.keyed(ctx, 0) })
	senders.Go(func() { l.plain(ctx, 1) })
	senders.Go(func() { l.plain(ctx, 2) })
	senders.Go(func() { l.sql(ctx, 3) })
}

// keyed sends as a client that must not lose anything.
func (l *load) keyed(ctx context.Context, sender int) {
	for i := 0; ctx.Err() == nil; i++ {
		text := fmt.Sprintf("keyed%d", i)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*longest)
		_, err := l.n.client.Send(bounded, client.Message{Channel: "load", Payload: fmt.Appendf(nil, "%q", text), Key: client.NewKey()})
		cancel()
		if err != nil {
			l.t.Errorf("a Send with a key over an outage: %v", err)
			return
		}
		l.note(sender, text, true)
	}
}

// plain sends without keys and checks what failures say.
func (l *load) plain(ctx context.Context, sender int) {
	for i := 0; ctx.Err() == nil; i++ {
		text := fmt.Sprintf("plain%d-%d", sender, i)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
		_, err := l.n.rpc.Send(bounded, sendRequest(message("load", text)))
		cancel()
		switch {
		case err == nil:
			l.note(sender, text, true)
		case status.Code(err) == codes.Unavailable && reason(err) == "DATABASE_UNAVAILABLE":
			l.note(sender, text, false)
		case status.Code(err) != codes.Unknown || reason(err) != "OUTCOME_UNKNOWN":
			l.t.Errorf("a Send in an outage: %v, want UNAVAILABLE or UNKNOWN of ours", err)
		}
	}
}

// sql sends in transactions of its own; one whose COMMIT was not answered may be stored.
func (l *load) sql(ctx context.Context, sender int) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.Background())
		}
	}()
	for i := 0; ctx.Err() == nil; i++ {
		text := fmt.Sprintf("sql%d", i)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		var err error
		if conn == nil {
			if conn, err = pgx.Connect(bounded, l.url); err != nil {
				conn = nil
			}
		}
		if conn != nil {
			if _, err = conn.Exec(bounded, fmt.Sprintf(`SELECT postbus.send('load', '"%s"')`, text)); err != nil {
				conn.Close(context.Background())
				conn = nil
			}
		}
		cancel()
		if err == nil {
			l.note(sender, text, true)
		}
	}
}

// G1, G2, G3: the database ends in every way under load, and comes back. The streams stay
// open; what was answered is delivered once and in order, what was refused is not.
func TestDatabaseOutageUnderLoadLosesNothingThatWasAnswered(t *testing.T) {
	t.Parallel()
	outages := map[string]func(*testing.T, *embedded.Server){
		"fast":      func(t *testing.T, s *embedded.Server) { must(t, s.StopFast(short(t))) },
		"immediate": func(t *testing.T, s *embedded.Server) { must(t, s.StopImmediate(short(t))) },
		"frozen": func(t *testing.T, s *embedded.Server) {
			must(t, s.Freeze())
			<-time.After(6 * time.Second) // longer than the deadline of any read
			must(t, s.Thaw())
		},
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			server := pgtest.Exclusive(t, nil)
			url := pgtest.DatabaseOn(t, server)
			n := startNode(t, url, nodeOptions{Fallback: time.Second})
			readers := []*stream{n.subscribe(t, 0, "load"), n.subscribe(t, -1, "load", "other")}
			texts := make([][]string, len(readers))
			var reading sync.WaitGroup
			for i, r := range readers {
				reading.Go(func() { texts[i] = r.untilEnd() })
			}
			l := disturbed(t, n, url, 1, func() {
				outage(t, server)
				if name != "frozen" {
					unavailable(t, n)
					must(t, server.Restart(short(t)))
				}
			})
			reading.Wait()
			if t.Failed() {
				return
			}
			equal(t, "the second reader", texts[1], texts[0])
			l.check(t, texts[0])
			t.Logf("%d delivered, %d answered, %d refused", len(texts[0]), len(l.answered), len(l.refused))
		})
	}
}

// unavailable checks what is said while the database is away: a poll never says "empty",
// no cursor is called AHEAD.
func unavailable(t *testing.T, n *node) {
	t.Helper()
	until(t, "the node has noticed", func() bool { return !n.dispatcher.State().Connected })
	for _, after := range []*int64{nil, new(int64(0)), new(int64(1) << 40)} {
		_, err := n.rpc.Poll(short(t), &postbusv1.PollRequest{Channels: []string{"quiet"}, After: after, Timeout: durationpb.New(0)})
		if status.Code(err) != codes.Unavailable || reason(err) != "DATABASE_UNAVAILABLE" {
			t.Errorf("poll while the database is away: %v, want UNAVAILABLE", err)
		}
	}
}

// inOrder checks that wanted is a subsequence of texts.
func inOrder(t testing.TB, texts, wanted []string) {
	t.Helper()
	rest := texts
	for _, text := range wanted {
		i := slices.Index(rest, text)
		if i < 0 {
			t.Fatalf("%q is not delivered behind what its sender sent before", text)
		}
		rest = rest[i+1:]
	}
}

// G3, G8: a stream that catches up from the table when the database goes away stays open,
// and goes on where it was.
func TestStreamThatCatchesUpStaysOpenThroughAnOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.Exclusive(t, nil)
	n := startNode(t, pgtest.DatabaseOn(t, server), nodeOptions{WindowBytes: 1})
	reader := stall(t, n, "load")
	var want []string
	for i := range 8 { // 1 MB each: more than buffers hold
		var messages []*postbusv1.Message
		for _, text := range numbered(fmt.Sprintf("%d-%s", i, strings.Repeat("x", 10_000)), 100) {
			want = append(want, text)
			messages = append(messages, message("load", text))
		}
		n.send(t, messages...)
	}
	must(t, server.StopFast(short(t)))
	unavailable(t, n)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for i, text := range want {
			if got := textOf(reader.next()); got != text {
				t.Errorf("message %d: got %.20q, want %.20q", i, got, text)
				return
			}
		}
	}()
	<-time.After(time.Second) // its reads fail meanwhile
	select {
	case <-read:
		t.Fatal("everything was read without the database")
	default:
	}
	must(t, server.Restart(short(t)))
	<-read
}

// G1: what Send has answered survives the server's crash right after.
func TestAnsweredSendSurvivesACrashOfTheDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.Exclusive(t, map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "100MB"})
	url := pgtest.DatabaseOn(t, server)
	n := startNode(t, url, nodeOptions{})
	for i := range 3 {
		n.asleep(t)
		text := fmt.Sprint("answered", i)
		receipts, err := n.client.Send(short(t), client.Message{Channel: "orders", Payload: fmt.Appendf(nil, "%q", text), Key: client.NewKey()})
		must(t, err)
		must(t, server.StopImmediate(short(t)))
		must(t, server.Restart(short(t)))
		// A node that has never seen it.
		fresh := startNode(t, url, nodeOptions{})
		got := fresh.poll(t, receipts[0].ID-1, "orders").GetNotifications()
		equal(t, "after the crash", textsOf(got), []string{text})
		fresh.stop()
	}
}
