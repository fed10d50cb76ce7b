//go:build unix

package latency

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/postbus/postbus/bench/internal/rig"
	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// Roles are the loop by hand.
func Roles() []rig.Role { return []rig.Role{{Name: "loop-server", Play: loopServer}} }

// A loop is the shortest way that a message can take over the same hops: gRPC in, INSERT
// and NOTIFY, LISTEN on another connection, the row read by its id, gRPC out. It
// promises nothing: no order, no resuming, no keys.
type loop struct {
	postbusv1.UnimplementedBusServiceServer
	pool *pgxpool.Pool

	mu      sync.Mutex // guards what follows
	readers map[chan *postbusv1.Notification]struct{}
}

// loopDatabase is the variable with the loop's database.
const loopDatabase = "POSTBUS_BENCH_DATABASE_URL"

// readerQueue is far above what the loop can have under way in a repetition.
const readerQueue = 64 << 10

func loopServer(ctx context.Context, _ []string, in io.Reader, out io.Writer) error {
	address := os.Getenv(loopDatabase)
	pool, err := pgxpool.New(ctx, address)
	if err != nil {
		return err
	}
	defer pool.Close()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN bench_loop"); err != nil {
		return err
	}
	l := &loop{pool: pool, readers: map[chan *postbusv1.Notification]struct{}{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		err := l.follow(ctx, conn)
		if ctx.Err() != nil {
			return nil
		}
		fmt.Fprintln(os.Stderr, "loop-server:", err) // the bench sees that nothing arrives
		return err
	})
	err = rig.ServeBus(l, in, out)
	cancel()
	return errors.Join(err, group.Wait())
}

// Send stores the messages, each by itself, and answers their ids.
func (l *loop) Send(ctx context.Context, request *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
	const statement = "WITH i AS (INSERT INTO postbus.bus (channel, type, json) VALUES ($1, $2, $3) RETURNING id) SELECT id, pg_notify('bench_loop', '') FROM i"
	response := &postbusv1.SendResponse{}
	for _, message := range request.GetMessages() {
		var id int64
		if err := l.pool.QueryRow(ctx, statement, message.GetChannel(), message.GetType(), message.GetJson()).Scan(&id, nil); err != nil {
			return nil, err
		}
		response.Results = append(response.Results, &postbusv1.SendResult{Id: id})
	}
	return response, nil
}

// follow reads what was inserted whenever it is told.
func (l *loop) follow(ctx context.Context, conn *pgx.Conn) error {
	last := int64(0)
	if err := conn.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM postbus.bus").Scan(&last); err != nil {
		return err
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, "SELECT id, channel, type, json FROM postbus.bus WHERE id > $1 ORDER BY id LIMIT 1000", last)
		if err != nil {
			return err
		}
		for rows.Next() {
			n, body := &postbusv1.Notification{}, &postbusv1.Notification_Json{}
			if err := rows.Scan(&n.Id, &n.Channel, &n.Type, &body.Json); err != nil {
				rows.Close()
				return err
			}
			n.Body = body
			last = n.GetId()
			l.deliver(n)
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
}

// deliver hands n to all readers, whatever their channels. One that is too slow misses
// it, and the bench says that it has not arrived.
func (l *loop) deliver(n *postbusv1.Notification) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for reader := range l.readers {
		select {
		case reader <- n:
		default:
		}
	}
}

// Subscribe sends each notification in a response of its own.
func (l *loop) Subscribe(_ *postbusv1.SubscribeRequest, stream postbusv1.BusService_SubscribeServer) error {
	reader := make(chan *postbusv1.Notification, readerQueue)
	l.mu.Lock()
	l.readers[reader] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.readers, reader)
		l.mu.Unlock()
	}()
	if err := stream.Send(&postbusv1.SubscribeResponse{}); err != nil {
		return err
	}
	for {
		select {
		case n := <-reader:
			response := &postbusv1.SubscribeResponse{Notifications: []*postbusv1.Notification{n}, Last: n.GetId()}
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}
