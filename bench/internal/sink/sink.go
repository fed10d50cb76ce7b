//go:build unix

// Package sink is the receiving end of every transport, as cheap as can be: many readers that
// count what comes and look at the ids, in this process or in another.
package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// wideWindow is a flow control window that nothing here fills.
const wideWindow = 1 << 30

// A Plan says what a sink reads.
type Plan struct {
	Target    string
	Over      string        // "": gRPC; else Polls, Events or Sockets, a connection each
	Conns     int           // of gRPC
	Readers   int           // spread evenly over the connections
	Channel   string        // "%d" in it is the reader's number, from 0
	Heartbeat time.Duration // 0: the server's default
	Window    int           // of gRPC, each stream and connection; 0: wideWindow
}

// channel returns what the reader reads.
func (p Plan) channel(reader int) string {
	return strings.ReplaceAll(p.Channel, "%d", fmt.Sprint(reader))
}

// A Sink is many readers: HTTP by hand, which costs a small part of what a client of gRPC
// or of JSON does, so that the server under test gets the processor.
type Sink struct {
	plan    Plan
	readers []reader
	conns   []*grpcConn
	web     []*webConn

	// arrived is told what each read of a connection has brought to a reader, by the
	// connection's goroutine. Optional.
	arrived func(reader, notifications int)
	// reached is called, once for each call of Until, when its mark is passed.
	reached func()
	mark    atomic.Int64 // 0: none
	total   atomic.Int64

	failed chan error // one slot: the first failure of a connection
}

// Open opens all streams and returns when each has got its first response: from then
// on it misses nothing.
func Open(ctx context.Context, plan Plan, arrived func(reader, notifications int), reached func()) (*Sink, error) {
	if plan.Window == 0 {
		plan.Window = wideWindow
	}
	s := &Sink{
		plan:    plan,
		readers: make([]reader, plan.Readers),
		arrived: arrived,
		reached: reached,
		failed:  make(chan error, 1),
	}
	var group errgroup.Group
	group.SetLimit(50) // handshakes at once
	if plan.Over == "" {
		s.conns = make([]*grpcConn, plan.Conns)
	} else {
		s.web = make([]*webConn, plan.Readers)
	}
	for i := range s.conns {
		group.Go(func() error {
			from, to := i*plan.Readers/plan.Conns, (i+1)*plan.Readers/plan.Conns
			conn, err := s.open(ctx, from, to)
			s.conns[i] = conn
			return err
		})
	}
	for i := range s.web {
		group.Go(func() (err error) {
			s.web[i], err = s.openWeb(ctx, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// request is what the reader asks for.
func (s *Sink) request(reader int) ([]byte, error) {
	request := &postbusv1.SubscribeRequest{Channels: []string{s.plan.channel(reader)}}
	if s.plan.Heartbeat > 0 {
		request.Heartbeat = durationpb.New(s.plan.Heartbeat)
	}
	return proto.Marshal(request)
}

// Until makes reached be called once all readers together have got so many notifications
// since the begin, at once if they have. There is one mark at a time.
func (s *Sink) Until(mark int64) {
	s.mark.Store(mark)
	s.add(0)
}

// add counts what one connection has read.
func (s *Sink) add(notifications int64) {
	total, mark := s.total.Add(notifications), s.mark.Load()
	if mark > 0 && total >= mark && s.mark.CompareAndSwap(mark, 0) {
		s.reached()
	}
}

// Check returns an error unless every reader has got so many notifications.
func (s *Sink) Check(count int64) error {
	for i := range s.readers {
		if got := s.readers[i].count; got != count {
			return fmt.Errorf("reader %d has got %d messages of %d", i, got, count)
		}
	}
	return nil
}

// Responses returns how many responses with notifications all readers have got.
func (s *Sink) Responses() int64 {
	n := int64(0)
	for i := range s.readers {
		n += s.readers[i].filled
	}
	return n
}

// Total returns how many notifications all readers together have got.
func (s *Sink) Total() int64 { return s.total.Load() }

// Count returns how many notifications a reader has got. It is for arrived only.
func (s *Sink) Count(reader int) int64 { return s.readers[reader].count }

// Failed is told the first failure of a connection.
func (s *Sink) Failed() <-chan error { return s.failed }

// Stall makes all connections of gRPC look like those of a program which does not read,
// until it is called with false.
func (s *Sink) Stall(stalled bool) error {
	var all []error
	for _, conn := range s.conns {
		all = append(all, conn.stall(stalled))
	}
	return errors.Join(all...)
}

func (s *Sink) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// Close ends all connections.
func (s *Sink) Close() error {
	var all []error
	for _, conn := range s.conns {
		if conn != nil {
			all = append(all, conn.close())
		}
	}
	for _, conn := range s.web {
		if conn != nil {
			all = append(all, conn.close())
		}
	}
	return errors.Join(all...)
}
