package robust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postbus/postbus/tests/robust/history"
)

// The ways of reading.
const (
	grpcPoll    = "grpc poll"
	jsonPoll    = "json poll"
	grpcStream  = "grpc stream"
	jsonStream  = "json stream"
	eventStream = "event stream"
	webSocket   = "websocket"
	sqlPoll     = "sql poll"
)

var (
	polls   = []string{grpcPoll, jsonPoll}
	streams = []string{grpcStream, jsonStream, eventStream, webSocket}
	ways    = slices.Concat(polls, streams, []string{sqlPoll})
)

// A leg is one decision of a reader: where and how it reads next, and for how long.
type leg struct {
	way       string
	node      int
	responses int           // of a stream, then it drops it
	lasts     time.Duration // at most
	timeout   time.Duration // of a poll
	max       int32
	pause     time.Duration // before it
	byURL     bool          // its URL says where it goes on; else an EventSource's header does, or a socket's first frame
	changes   int           // of a socket's channels: one with so many messages; 0: none
}

// A reader is one chain: each leg goes on from the last of the one before.
type reader struct {
	*run
	history.Chain
	random *rand.Rand
	ways   []string
	stall  time.Duration // the longest between two responses; 0: none
	pinned *int          // the only node that it reads from

	first   int64 // where its first leg began
	after   int64
	legs    int
	begun   time.Duration // of the leg under way
	opened  bool          // it has had its first response
	present leg
}

func (r *reader) decide() leg {
	l := leg{
		way:       r.ways[r.random.IntN(len(r.ways))],
		node:      r.random.IntN(len(r.nodes)),
		responses: 1 + r.random.IntN(40),
		lasts:     200*time.Millisecond + upTo(r.random, 6*time.Second),
		timeout:   upTo(r.random, 1500*time.Millisecond),
		max:       []int32{1, 7, 100, 1000}[r.random.IntN(4)],
		pause:     upTo(r.random, r.traffic.away),
		byURL:     chance(r.random, 50),
		changes:   r.random.IntN(8),
	}
	if l.way == eventStream {
		l.responses *= 10 // each event is one
	}
	if r.pinned != nil {
		l.node, l.pause = *r.pinned, 0
	}
	if r.stall > 0 {
		l.responses, l.lasts = 1<<30, time.Minute
	}
	return l
}

// work reads leg after leg until it has come to the head, once there is one.
func (r *reader) work(ctx context.Context) {
	for !r.arrived() {
		l := r.decide()
		if r.head.Load() >= 0 {
			l.pause, l.max = 0, 1000
		}
		if !rest(ctx, l.pause) {
			return
		}
		bounded, cancel := context.WithTimeout(ctx, l.lasts+2*time.Second)
		if err := r.read(bounded, l); err != nil {
			if hopeless(err) {
				r.fail(fmt.Errorf("chain %s, leg %d (%s): %w", r.Name, r.legs, l.way, err))
			}
			rest(ctx, 20*time.Millisecond) // the node is away, or nothing came in time
		}
		cancel()
	}
}

// arrived reports whether the traffic is over and the reader has read it all.
func (r *reader) arrived() bool {
	head := r.head.Load()
	return head >= 0 && r.after >= head
}

// read is one leg.
func (r *reader) read(ctx context.Context, l leg) error {
	r.present, r.opened, r.begun = l, false, r.record.Now()
	r.legs++
	if l.way == sqlPoll {
		return r.sqlPoll(ctx)
	}
	up := r.nodes[l.node].up()
	if up == nil {
		return fmt.Errorf("node %s is down", r.nodes[l.node].name)
	}
	switch l.way {
	case grpcPoll:
		return r.grpcPoll(ctx, up)
	case jsonPoll:
		return r.jsonPoll(ctx, up)
	case grpcStream:
		return r.grpcStream(ctx, up)
	case jsonStream:
		return r.jsonStream(ctx, up)
	case eventStream:
		return r.eventStream(ctx, up)
	}
	return r.webSocket(ctx, up)
}

// errOdd is of an answer that no client of its kind understands, or comes back from.
var errOdd = errors.New("odd")

// hopeless reports whether err is of what no retry cures. Nothing that a reader asks for is.
func hopeless(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return errors.Is(err, errOdd) || websocket.IsCloseError(err, websocket.CloseProtocolError, websocket.CloseUnsupportedData,
		websocket.CloseInvalidFramePayloadData, websocket.ClosePolicyViolation, websocket.CloseMessageTooBig)
}

// take writes a response down and moves the cursor. more says that a stream goes on.
func (r *reader) take(ctx context.Context, response history.Response) (more bool) {
	response.Chain, response.Leg, response.Way, response.Node = r.Name, r.legs, r.present.way, r.nodes[r.present.node].name
	response.Opens, response.After, response.Call, response.Return = !r.opened, r.after, r.begun, r.record.Now()
	r.record.Response(response)
	r.opened, r.after = true, response.Last
	r.seen.note(r.present.node, response.Last)
	r.present.responses--
	if r.stall > 0 && r.head.Load() < 0 {
		rest(ctx, time.Duration(r.random.Int64N(int64(r.stall))))
	}
	return r.present.responses > 0 && r.record.Now()-r.begun < r.present.lasts && !r.arrived()
}

// sqlPoll reads as an application does that has nothing but SQL.
func (r *reader) sqlPoll(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var after *int64
	if r.after != history.Absent {
		after = &r.after
	}
	for {
		var text string
		if err := conn.QueryRow(ctx, "SELECT postbus.poll($1, $2, $3)::text", r.Channels, after, r.present.max).Scan(&text); err != nil {
			return err
		}
		response, err := responseOf([]byte(text))
		if err != nil {
			return err
		}
		more := r.take(ctx, response)
		after = &r.after
		r.opened = false // each is a poll of its own
		if !more || !rest(ctx, 100*time.Millisecond) {
			return nil
		}
		r.legs++
		r.begun = r.record.Now()
	}
}
