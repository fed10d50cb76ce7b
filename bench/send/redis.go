//go:build unix

package send

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/postbus/postbus/bench/internal/rig"
)

// startRedis starts a Redis that syncs its append-only file before it answers, and nothing
// else: no snapshots, no rewriting. Each caller has a connection of its own, which lets
// Redis sync once for many of them.
func startRedis(ctx context.Context, callers, size int) (*rival, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed (Debian: apt-get install redis-server)")
	}
	command := func(folder, addr string) (*exec.Cmd, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return exec.CommandContext(ctx, program, "--bind", host, "--port", port, "--dir", folder, "--daemonize", "no",
			"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--save", "",
			"--loglevel", "warning"), nil
	}
	return startRival(ctx, command, func(r *rival) error {
		client := dialRedis(r.addr, callers)
		if err := client.Ping(ctx).Err(); err != nil {
			return errors.Join(err, client.Close())
		}
		r.hangUp = func() { _ = client.Close() }
		r.ways = []way{{"XADD", func(ctx context.Context, caller int) error { return add(ctx, client, caller) }}}
		if size > 1 {
			r.ways = []way{{"MULTI of XADDs", func(ctx context.Context, caller int) error { return addAll(ctx, client, caller, size) }}}
		}
		return nil
	})
}

func dialRedis(addr string, callers int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:                     addr,
		PoolSize:                 callers,
		MaxRetries:               -1, // a failure is to show
		ReadTimeout:              time.Minute,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// entry is one message, in a stream for each caller as there is a channel for each.
func entry(caller int) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: fmt.Sprintf("bench-%d", caller), Values: []string{"json", rig.Payload()}}
}

func add(ctx context.Context, client *redis.Client, caller int) error {
	return client.XAdd(ctx, entry(caller)).Err()
}

// addAll stores all messages or none, as Send does.
func addAll(ctx context.Context, client *redis.Client, caller, size int) error {
	_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		args := entry(caller)
		for range size {
			p.XAdd(ctx, args)
		}
		return nil
	})
	return err
}
