//go:build unix

package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// endPatience is how long a process has to end by itself.
const endPatience = 15 * time.Second

// A Process is a child: a node, a rival, or this program in another part. It is ended by its
// owner and, when the bench is interrupted, by its context.
type Process struct {
	cmd    *exec.Cmd
	words  *lastWords
	exited chan struct{} // closed when it has ended
	asked  atomic.Bool   // to end
	told   atomic.Bool   // by an error, that it has ended too soon
}

// StartProcess starts cmd, which must have been made with exec.CommandContext.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, words: &lastWords{}, exited: make(chan struct{})}
	cmd.Stderr = p.words
	if cmd.Stdout == nil {
		cmd.Stdout = p.words
	}
	cmd.Cancel = func() error {
		p.asked.Store(true)
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = endPatience
	// A terminal's Ctrl-C is for the bench, which ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // ProcessState has it
		close(p.exited)
	}()
	return p, nil
}

// PID returns the process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Said returns the end of what the process has written.
func (p *Process) Said() string { return p.words.text() }

// CPU returns the CPU time that the process has spent.
func (p *Process) CPU() (time.Duration, error) {
	stat, err := readStat(strconv.Itoa(p.PID()))
	return stat.own, err
}

// Until asks again and again whether the process has come to the named state.
func (p *Process) Until(ctx context.Context, state string, reached func() bool) error {
	const patience = time.Minute
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(patience)
	defer end.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-p.exited:
			return p.failure()
		case <-end.C:
			return fmt.Errorf("%s: not %s within %s: %s", p.cmd.Args[0], state, patience, p.Said())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// failure is the error of a process that ended too soon. It must have exited.
func (p *Process) failure() error {
	p.told.Store(true)
	return fmt.Errorf("%s ended by itself, %s: %s", p.cmd.Args[0], p.cmd.ProcessState, p.Said())
}

// End asks the process to end, waits for it, and kills it when that takes too long. An
// error, too: it had ended by itself, and nobody has been told yet.
func (p *Process) End() error {
	if err := p.untoldFailure(); err != nil {
		return err
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.wait()
}

// untoldFailure is called when the process is to end now.
func (p *Process) untoldFailure() error {
	select {
	case <-p.exited:
		if !p.asked.Load() && !p.told.Load() {
			return p.failure()
		}
	default:
		p.asked.Store(true)
	}
	return nil
}

// wait waits for the end. That of a process which crashes meanwhile is an error.
func (p *Process) wait() error {
	select {
	case <-p.exited:
		if p.crashed() && !p.told.Load() {
			return p.failure()
		}
		return nil
	case <-time.After(endPatience):
	}
	err := fmt.Errorf("%s did not end within %s", p.cmd.Args[0], endPatience)
	if kill := p.cmd.Process.Kill(); kill != nil && !errors.Is(kill, os.ErrProcessDone) {
		return errors.Join(err, kill)
	}
	<-p.exited
	return err
}

// crashed says that a process was ended by a panic, or by a signal that nobody sent it: its
// connections break before its end is seen.
func (p *Process) crashed() bool {
	const panicked = 2 // Go's exit code
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status.ExitStatus() == panicked || status.Signaled() && status.Signal() != syscall.SIGTERM
}

// lastWords keep the end of what a process writes, for the error when it fails.
type lastWords struct {
	mu    sync.Mutex // guards words
	words []byte
}

const lastWordsLimit = 8 << 10 // a panic begins with what matters

// Write never fails.
func (l *lastWords) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.words = append(l.words, text...)
	l.words = l.words[max(0, len(l.words)-lastWordsLimit):]
	return len(text), nil
}

func (l *lastWords) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.words)
}
