//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrInUse means that another Server, most likely another process's, has the data folder.
var ErrInUse = errors.New("the data folder is in use")

// lockFolder takes the folder's lock and writes this process's pid into it, for whoever
// finds it taken. Closing the file drops the lock, and so does any end of this process.
func lockFolder(folder string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		holder, _ := io.ReadAll(io.LimitReader(file, 20))
		return nil, fmt.Errorf("%s: %w by process %s; stop that one or choose another folder",
			folder, ErrInUse, strings.TrimSpace(string(holder)))
	}
	if err := file.Truncate(0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// A pidFile is what PostgreSQL writes into postmaster.pid.
type pidFile struct {
	pid   int
	ready bool // connections are accepted
}

func readPidFile(cluster string) (pidFile, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		return pidFile{}, err
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return pidFile{}, fmt.Errorf("postmaster.pid: %q is no process number", lines[0])
	}
	const status = 7 // LOCK_FILE_LINE_PM_STATUS - 1
	return pidFile{
		pid:   pid,
		ready: len(lines) > status && strings.TrimSpace(lines[status]) == "ready",
	}, nil
}

// endLeftover ends a postmaster that an earlier life left on the cluster, which happens
// when the program was killed. The folder's lock is held, so that it has no owner.
func (s *Server) endLeftover(ctx context.Context) error {
	left, err := readPidFile(s.cluster)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !isPostmaster(left.pid, s.cluster) {
		reused := left.pid > 1 && syscall.Kill(left.pid, 0) == nil
		if !reused {
			return nil // PostgreSQL sees by itself that its last life is over
		}
		// The number is another process's now; PostgreSQL would take that for its last life.
		return os.Remove(filepath.Join(s.cluster, "postmaster.pid"))
	}
	s.options.Logger.WarnContext(ctx, "ending the PostgreSQL that an earlier run left", "pid", left.pid)
	for _, step := range []endStep{endFast, endImmediate, endKill} {
		for _, signal := range []syscall.Signal{step.signal, syscall.SIGCONT} {
			if err := syscall.Kill(left.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end the PostgreSQL that an earlier run left (pid %d): %w", left.pid, err)
			}
		}
		gone := func() (bool, error) { return !isPostmaster(left.pid, s.cluster), nil }
		if err := poll(ctx, step.patience, gone); !errors.Is(err, errPatience) {
			return err
		}
	}
	return fmt.Errorf("the PostgreSQL that an earlier run left (pid %d) does not end", left.pid)
}

var errPatience = errors.New("took too long")

// poll calls done until it says so or fails, at most for patience.
func poll(ctx context.Context, patience time.Duration, done func() (bool, error)) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-limit.C:
			return errPatience
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
