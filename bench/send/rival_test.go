//go:build unix

package send

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

func TestRivalsStoreWhatTheyAnswer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	t.Setenv("TMPDIR", t.TempDir())
	natsServer, err := natsServer(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const callers, rounds = 6, 4
	for _, size := range []int{1, 7} {
		for _, each := range []struct {
			name   string
			start  func() (*rival, error)
			stored func(context.Context, *rival) (int, error)
		}{
			{viaNATS, func() (*rival, error) { return startNATS(ctx, natsServer, callers, size) }, storedByNATS},
			{viaRedis, func() (*rival, error) { return startRedis(ctx, callers, size) }, storedByRedis},
		} {
			t.Run(fmt.Sprintf("%s, %d a call", each.name, size), func(t *testing.T) {
				r, err := each.start()
				if err != nil {
					t.Fatal(err)
				}
				ended := false
				defer func() {
					if !ended {
						_ = r.end()
					}
				}()
				want := 0
				for _, way := range r.ways {
					group, ctx := errgroup.WithContext(ctx)
					for caller := range callers {
						group.Go(func() error {
							for range rounds {
								if err := way.call(ctx, caller); err != nil {
									return fmt.Errorf("%s: %w", way.name, err)
								}
							}
							return nil
						})
					}
					if err := group.Wait(); err != nil {
						t.Fatal(err)
					}
					want += callers * rounds * size
					got, err := each.stored(ctx, r)
					if err != nil || got != want {
						t.Errorf("after %s: %d messages are stored (%v), want %d", way.name, got, err, want)
					}
				}
				ended = true
				if err := r.end(); err != nil {
					t.Error(err)
				}
				expectNothingLeft(t)
			})
		}
	}
}

func storedByNATS(_ context.Context, r *rival) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := nats.Connect("nats://" + r.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return 0, err
	}
	stream, err := js.Stream(ctx, "bench")
	if err != nil {
		return 0, err
	}
	return int(stream.CachedInfo().State.Msgs), nil
}

// storedByRedis also makes sure that Redis syncs each answer.
func storedByRedis(_ context.Context, r *rival) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := dialRedis(r.addr, 1)
	defer client.Close()
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "always", "save": ""} {
		settings, err := client.ConfigGet(ctx, name).Result()
		if err != nil {
			return 0, err
		}
		if settings[name] != want {
			return 0, fmt.Errorf("%s is %q, must be %q", name, settings[name], want)
		}
	}
	streams, err := client.Keys(ctx, "*").Result()
	total := 0
	for _, each := range streams {
		n, lenErr := client.XLen(ctx, each).Result()
		err = errors.Join(err, lenErr)
		total += int(n)
	}
	return total, err
}

func TestARivalThatCannotStartLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for program, want := range map[string]string{
		filepath.Join(t.TempDir(), "absent"): "no such file",
		"/bin/false":                         "ended",
	} {
		if _, err := startNATS(t.Context(), program, 1, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", program, err, want)
		}
		expectNothingLeft(t)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := startRedis(t.Context(), 1, 1); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("without redis-server: %v", err)
	}
}

func expectNothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range left {
		if strings.HasPrefix(each.Name(), "postbus-bench-") {
			t.Errorf("%s is left", each.Name())
		}
	}
}
