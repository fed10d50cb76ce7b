package tests

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// pick returns the size of a test: the full one under `make test-long`, which sets POSTBUS_TEST_LONG, and else one that
// every run can afford. The full ones have more goroutines than the race detector takes.
func pick(usual, full int) int {
	if os.Getenv("POSTBUS_TEST_LONG") != "" {
		return full
	}
	return usual
}

// perConnection is how many streams of a crowd share a connection.
const perConnection = 100

// A crowd is many streams, each read by a goroutine of its own until the message "end".
type crowd struct {
	t       testing.TB
	reading sync.WaitGroup
	texts   [][]string // of each stream, once reading is over
}

// gather opens a stream for each list of channels and returns when each has its first response: from then on nothing is
// missed.
func gather(t *testing.T, n *node, channels [][]string) *crowd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(pick(1, 10))*patience)
	t.Cleanup(cancel)
	c := &crowd{t: t, texts: make([][]string, len(channels))}
	var opened sync.WaitGroup
	opening := make(chan struct{}, 64)
	for first := 0; first < len(channels); first += perConnection {
		conn, err := grpc.NewClient(n.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		rpc := postbusv1.NewBusServiceClient(conn)
		for i := first; i < min(first+perConnection, len(channels)); i++ {
			opening <- struct{}{}
			opened.Add(1)
			c.reading.Go(func() {
				stream, err := rpc.Subscribe(ctx, &postbusv1.SubscribeRequest{Channels: channels[i]})
				if err == nil {
					_, err = stream.Recv()
				}
				<-opening
				opened.Done()
				if err == nil {
					c.texts[i], err = untilEnd(stream)
				}
				if err != nil {
					t.Errorf("reader %d: %v", i, err)
				}
			})
		}
	}
	opened.Wait()
	return c
}

// untilEnd reads up to the message "end" and returns what came before, of which the ids ascend.
func untilEnd(stream grpc.ServerStreamingClient[postbusv1.SubscribeResponse]) (texts []string, err error) {
	for id := int64(0); ; {
		response, err := stream.Recv()
		if err != nil {
			return texts, fmt.Errorf("after %d notifications: %w", len(texts), err)
		}
		for _, n := range response.GetNotifications() {
			if n.GetId() <= id || response.GetGap() != nil {
				return texts, fmt.Errorf("id %d after %d, gap %v", n.GetId(), id, response.GetGap())
			}
			id = n.GetId()
			if textOf(n) == "end" {
				return texts, nil
			}
			texts = append(texts, textOf(n))
		}
	}
}

// G2: ten thousand readers of one channel are all given the same, once and in order.
func TestEveryOneOfManyReadersOfAChannelIsGivenEverything(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	want := numbered("m", 50)
	c := gather(t, n, slices.Repeat([][]string{{"popular"}}, pick(300, 10_000)))
	if open := n.service.Stats().OpenStreams; open != int64(len(c.texts)) {
		t.Errorf("%d streams are open, want %d", open, len(c.texts))
	}
	for _, text := range append(want, "end") {
		n.send(t, message("popular", text))
	}
	c.reading.Wait()
	for i, texts := range c.texts {
		equal(t, fmt.Sprint("reader ", i), texts, want)
	}
}

// G2: a million channels, and readers on ten thousand of them: each is given what its channel got, and nothing else.
func TestReadersOfFewAmongManyChannelsAreGivenTheirOwn(t *testing.T) {
	channels, readers := pick(20_000, 1_000_000), pick(200, 10_000)
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	every := channels / readers
	read := make([][]string, readers)
	for i := range read {
		read[i] = []string{fmt.Sprint("channel", i*every), "all"}
	}
	c := gather(t, n, read)
	for first := 0; first < channels; first += 1000 {
		messages := make([]*postbusv1.Message, 1000)
		for i := range messages {
			messages[i] = message(fmt.Sprint("channel", first+i), fmt.Sprint("for", first+i))
		}
		n.send(t, messages...)
	}
	n.send(t, message("all", "end"))
	c.reading.Wait()
	for i, texts := range c.texts {
		equal(t, fmt.Sprint("the reader of channel", i*every), texts, []string{fmt.Sprint("for", i*every)})
	}
	// And from the table, by one that comes later.
	late := n.poll(t, 0, fmt.Sprint("channel", channels-1)).GetNotifications()
	equal(t, "a late poll", textsOf(late), []string{fmt.Sprint("for", channels-1)})
}
