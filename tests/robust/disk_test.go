package robust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded"
)

// A disk is a small file system in memory that a PostgreSQL of its own is on. Only root can
// mount one; without it the scenario is not run, and says so.
type disk struct {
	folder  string
	ballast string // what fills it
}

// smallDisk mounts a disk of some MiB, until the test ends.
func smallDisk(t *testing.T, size int) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can mount a small disk")
	}
	// Not in the test's own folder, which PostgreSQL's user may not enter.
	folder, err := os.MkdirTemp("", "postbus-disk-")
	must(t, err)
	must(t, os.Chmod(folder, 0o755))
	t.Cleanup(func() {
		if err := os.Remove(folder); err != nil {
			t.Error(err)
		}
	})
	said, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=755", size), "tmpfs", folder).CombinedOutput()
	if err != nil {
		t.Skipf("NOT RUN: mount a small disk: %v: %s", err, said)
	}
	t.Cleanup(func() {
		if said, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, said)
		}
	})
	return &disk{folder: folder, ballast: filepath.Join(folder, "ballast")}
}

// serverOn starts a PostgreSQL on the disk.
func (d *disk) serverOn(t *testing.T, ctx context.Context, settings map[string]string) *embedded.Server {
	t.Helper()
	data := filepath.Join(d.folder, "data")
	server, err := embedded.Start(ctx, embedded.Options{
		BinDir: os.Getenv("POSTBUS_TEST_POSTGRES_BIN"), DataDir: data, Ephemeral: true, Settings: settings,
	})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), longest)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return server
}

// fill takes all the room there is.
func (d *disk) fill() error {
	file, err := os.Create(d.ballast)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, endless{})
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, file.Close())
}

// endless is a file of zeros without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// fillDisk lets the database run out of room for a while. It refuses statements then, or
// panics for want of room for its log; then it may give up and must be started again.
func fillDisk(ctx context.Context, r *run, random *rand.Rand) error {
	lasts := 500*time.Millisecond + upTo(random, 4*time.Second)
	r.record.Fault("the disk is full for %v", lasts)
	if err := r.disk.fill(); err != nil {
		return err
	}
	rest(ctx, lasts)
	if err := os.Remove(r.disk.ballast); err != nil {
		return err
	}
	r.record.Fault("the disk has room again")
	for {
		select {
		case <-r.server.Done():
			r.record.Fault("the database had ended, and is started again")
			return r.server.Restart(ctx)
		default:
		}
		err := r.query(ctx, func(conn *pgx.Conn) error { return conn.Ping(ctx) })
		if err == nil || !rest(ctx, 50*time.Millisecond) {
			return err
		}
	}
}
