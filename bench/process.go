//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// endPatience is how long a process has to end by itself.
const endPatience = 15 * time.Second

// A process is a child: a node, a rival, or this program in another part. It is ended by its
// owner and, when the bench is interrupted, by its context.
type process struct {
	cmd    *exec.Cmd
	said   *lastWords
	exited chan struct{} // closed when it has ended
	asked  atomic.Bool   // to end
	told   atomic.Bool   // by an error, that it has ended too soon
}

// startProcess starts cmd, which must have been made with exec.CommandContext.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, said: &lastWords{}, exited: make(chan struct{})}
	cmd.Stderr = p.said
	if cmd.Stdout == nil {
		cmd.Stdout = p.said
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

func (p *process) pid() int { return p.cmd.Process.Pid }

// until asks again and again whether the process has come to the named state.
func (p *process) until(ctx context.Context, state string, reached func() bool) error {
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
			return fmt.Errorf("%s: not %s within %s: %s", p.cmd.Args[0], state, patience, p.said.text())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// failure is the error of a process that ended too soon. It must have exited.
func (p *process) failure() error {
	p.told.Store(true)
	return fmt.Errorf("%s ended by itself, %s: %s", p.cmd.Args[0], p.cmd.ProcessState, p.said.text())
}

// end asks the process to end, waits for it, and kills it when that takes too long. An
// error, too: it had ended by itself, and nobody has been told yet.
func (p *process) end() error {
	if err := p.untoldFailure(); err != nil {
		return err
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.wait()
}

// untoldFailure is called when the process is to end now.
func (p *process) untoldFailure() error {
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
func (p *process) wait() error {
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
func (p *process) crashed() bool {
	const panicked = 2 // Go's exit code
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status.ExitStatus() == panicked || status.Signaled() && status.Signal() != syscall.SIGTERM
}

// A part is this program as another process. It says "ready" (and where), answers
// one line for each that it is asked, and ends when its input does.
type part struct {
	process *process
	in      io.WriteCloser
	out     *bufio.Reader
	pipe    *os.File
	addr    string // what it said behind "ready"
}

// startPart starts the part of that name and returns when it is ready.
func startPart(ctx context.Context, patience time.Duration, env []string, args ...string) (*part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// A pipe of our own: StdoutPipe's must not be read while Wait runs.
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = writer
	p, err := startProcess(cmd)
	if err != nil {
		return nil, errors.Join(err, reader.Close(), writer.Close())
	}
	c := &part{process: p, in: in, out: bufio.NewReader(reader), pipe: reader}
	if err := writer.Close(); err != nil {
		return nil, errors.Join(err, c.end())
	}
	line, err := c.line(patience)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", args[0], err), c.end())
	}
	if _, err := fmt.Sscanf(line, "ready %s", &c.addr); err != nil {
		return nil, errors.Join(fmt.Errorf("%s said %q, not ready: %w", args[0], line, err), c.end())
	}
	return c, nil
}

// ask writes a line and returns the answer.
func (c *part) ask(line string) (string, error) {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return "", err
	}
	return c.line(endPatience)
}

func (c *part) line(patience time.Duration) (string, error) {
	if err := c.pipe.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := c.out.ReadString('\n')
	if err == nil {
		return line, nil
	}
	if errors.Is(err, io.EOF) {
		if waited := c.process.wait(); waited != nil {
			return "", waited
		}
		return "", c.process.failure()
	}
	return "", fmt.Errorf("waited %s for a line: %w", patience, err)
}

func (c *part) end() error {
	failed := c.process.untoldFailure()
	_ = c.in.Close() // closed already when the process has ended
	return errors.Join(failed, c.process.wait(), c.pipe.Close())
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
