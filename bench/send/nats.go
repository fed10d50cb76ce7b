//go:build unix

package send

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postbus/postbus/bench/internal/rig"
)

// natsConfig syncs before it answers, and raises the bounds on what may be under way above
// what all callers together send.
const natsConfig = `
listen: %q
jetstream {
	store_dir: %q
	sync_interval: always
	max_buffered_msgs: 200000
	limits { batch { max_inflight_per_stream: 1000, max_inflight_total: 1000 } }
}
`

// natsServer builds the nats-server of our go.mod into folder, unless that has been done.
func natsServer(ctx context.Context, folder string) (string, error) {
	program := filepath.Join(folder, "nats-server")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return program, rig.Build(ctx, ".", program, "github.com/nats-io/nats-server/v2")
}

// startNATS starts a nats-server with one stream in files, and connects to it as often as
// the callers of Send connect to a node.
func startNATS(ctx context.Context, program string, callers, size int) (*rival, error) {
	command := func(folder, addr string) (*exec.Cmd, error) {
		config := filepath.Join(folder, "nats.conf")
		text := fmt.Sprintf(natsConfig, addr, filepath.Join(folder, "data"))
		return exec.CommandContext(ctx, program, "--config", config), os.WriteFile(config, []byte(text), 0o600)
	}
	return startRival(ctx, command, func(r *rival) error {
		p, err := newPublishers(ctx, r.addr, callers, size)
		if err != nil {
			return err
		}
		r.hangUp = p.hangUp
		r.ways = []way{{"publish", p.one}}
		if size > 1 {
			r.ways = []way{{"async publish", p.async}, {"atomic batch", p.batch}}
		}
		return nil
	})
}

// publishers are the callers of JetStream, on their connections.
type publishers struct {
	size    int
	conns   []*nats.Conn
	streams []jetstream.JetStream
	batches atomic.Int64
}

func newPublishers(ctx context.Context, addr string, callers, size int) (_ *publishers, err error) {
	p := &publishers{size: size}
	defer func() {
		if err != nil {
			p.hangUp()
		}
	}()
	for range min(conns, callers) {
		conn, err := nats.Connect("nats://"+addr, nats.NoReconnect())
		if err != nil {
			return nil, err
		}
		p.conns = append(p.conns, conn)
		js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(callers*size))
		if err != nil {
			return nil, err
		}
		p.streams = append(p.streams, js)
	}
	_, err = p.streams[0].CreateStream(ctx, jetstream.StreamConfig{
		Name: "bench", Subjects: []string{"bench.*"}, Storage: jetstream.FileStorage, AllowAtomicPublish: true,
	})
	return p, err
}

func (p *publishers) hangUp() {
	for _, conn := range p.conns {
		conn.Close()
	}
}

func subject(caller int) string { return fmt.Sprintf("bench.%d", caller) }

// one publishes a message and waits for its acknowledgement.
func (p *publishers) one(ctx context.Context, caller int) error {
	_, err := p.streams[caller%len(p.streams)].Publish(ctx, subject(caller), []byte(rig.Payload()))
	return err
}

// async publishes the messages of a call and then waits for all acknowledgements.
func (p *publishers) async(ctx context.Context, caller int) error {
	js, to, body := p.streams[caller%len(p.streams)], subject(caller), []byte(rig.Payload())
	promised := make([]jetstream.PubAckFuture, p.size)
	for i := range promised {
		var err error
		if promised[i], err = js.PublishAsync(to, body); err != nil {
			return err
		}
	}
	for _, each := range promised {
		select {
		case <-each.Ok():
		case err := <-each.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// batch publishes the messages of a call as one atomic batch, which nats.go has no call
// for: headers number them, and the last asks for the commit and is answered.
func (p *publishers) batch(ctx context.Context, caller int) error {
	conn, to, body := p.conns[caller%len(p.conns)], subject(caller), []byte(rig.Payload())
	id := strconv.FormatInt(p.batches.Add(1), 10)
	message := func(i int) *nats.Msg {
		return &nats.Msg{Subject: to, Data: body, Header: nats.Header{
			"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(i)},
		}}
	}
	for i := 1; i < p.size; i++ {
		if err := conn.PublishMsg(message(i)); err != nil {
			return err
		}
	}
	last := message(p.size)
	last.Header.Set("Nats-Batch-Commit", "1")
	answer, err := conn.RequestMsgWithContext(ctx, last)
	if err != nil {
		return err
	}
	var committed struct {
		Count int `json:"count"`
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &committed); err != nil {
		return err
	}
	switch {
	case committed.Error != nil:
		return errors.New(committed.Error.Description)
	case committed.Count != p.size:
		return fmt.Errorf("a batch of %d messages has %d", p.size, committed.Count)
	}
	return nil
}
