//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A process is one run of the postmaster. It is a child of this process, in a process
// group of its own.
type process struct {
	cmd   *exec.Cmd
	log   *tail
	asked atomic.Bool // it was told to end

	exited chan struct{} // closed once it is gone, reaped and its log read
	died   chan struct{} // closed after that, unless it was asked
	err    error         // how it ended; set before exited is closed
}

// startProcess starts the postmaster and the two goroutines that wait for it and read its
// log. They end with it.
func startProcess(cmd *exec.Cmd, log *tail) (*process, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	cmd.SysProcAttr.Setpgid = true
	endWithParent(cmd.SysProcAttr, syscall.SIGINT)
	p := &process{
		cmd:    cmd,
		log:    log,
		exited: make(chan struct{}),
		died:   make(chan struct{}),
	}
	logRead := make(chan struct{})
	go p.readLog(reader, logRead)
	started := make(chan error, 1)
	go p.run(started, writer, reader, logRead)
	if err := <-started; err != nil {
		<-logRead
		return nil, err
	}
	return p, nil
}

// run starts the child and waits for it on one and the same OS thread: the kernel sends
// the parent-death signal when the thread that forked ends, not the process.
func (p *process) run(started chan<- error, writer, reader *os.File, logRead <-chan struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	writer.Close()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	// A killed postmaster's children hold the log open until they notice.
	select {
	case <-logRead:
	case <-time.After(2 * time.Second):
		reader.Close()
		<-logRead
	}
	close(p.exited)
	if !p.asked.Load() {
		close(p.died)
	}
}

func (p *process) readLog(reader *os.File, done chan<- struct{}) {
	defer close(done)
	defer reader.Close()
	_, _ = io.Copy(p.log, reader) // it ends with the last writer, or by Close
}

// end sends the signals one after the other, each with its time to take effect, until the
// process is gone. When ctx is over it goes on to the next at once.
func (p *process) end(ctx context.Context, steps ...endStep) error {
	p.asked.Store(true)
	for _, step := range steps {
		if err := p.cmd.Process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("%s to postgres: %w", step.signal, err)
		}
		patience := time.NewTimer(step.patience)
		hurry := ctx.Done()
		if step.signal != syscall.SIGINT {
			hurry = nil
		}
		select {
		case <-p.exited:
			patience.Stop()
			return nil
		case <-hurry:
			patience.Stop()
		case <-patience.C:
		}
	}
	return fmt.Errorf("postgres (pid %d) does not end", p.cmd.Process.Pid)
}

type endStep struct {
	signal   syscall.Signal
	patience time.Duration
}

// The ways a postmaster ends: fast disconnects everyone and writes a checkpoint,
// immediate leaves the recovery to the next start.
var (
	endFast      = endStep{syscall.SIGINT, 15 * time.Second}
	endImmediate = endStep{syscall.SIGQUIT, 10 * time.Second}
	endKill      = endStep{syscall.SIGKILL, 5 * time.Second}
)

// each signals the postmaster and all its children. They are in sessions of their own, so
// that no process group reaches them.
func (p *process) each(signal syscall.Signal) error {
	pid := p.cmd.Process.Pid
	// The postmaster first: once it is stopped, its children are all there are.
	if err := p.cmd.Process.Signal(signal); err != nil {
		return err
	}
	pids, err := children(pid)
	if err != nil {
		return err
	}
	for _, child := range pids {
		if err := syscall.Kill(child, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// runProgram runs one of PostgreSQL's programs to its end and returns what it printed. It
// and its children are killed when ctx is over or, on Linux, when this process ends.
func runProgram(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	runtime.LockOSThread() // see process.run
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Setpgid = true
	endWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return out, fmt.Errorf("%s: %w%s", cmd.Path, err, said(out))
	}
	return out, nil
}
