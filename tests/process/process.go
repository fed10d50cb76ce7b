// Package process builds the program and runs it, and others, as processes, for the tests.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// A Process is a command under way.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr Output
	Exited         chan struct{} // closed when it has ended
	Err            error         // of Wait, once Exited is closed
}

// Start starts cmd. Its output goes to the Process.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, Exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.Stdout, &p.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.Err = cmd.Wait()
		close(p.Exited)
	}()
	return p, nil
}

// Kill ends the process if it still runs, with all that it started if it has a process
// group of its own, and waits for its end.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // it may have ended
	if p.Cmd.SysProcAttr != nil && p.Cmd.SysProcAttr.Setpgid {
		_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.Exited
}

// Code waits for the end and returns the exit code, -1 of a process that was killed.
func (p *Process) Code(ctx context.Context) (int, error) {
	select {
	case <-p.Exited:
	case <-ctx.Done():
		return 0, fmt.Errorf("%q has not ended: %w", p.Cmd.Args, ctx.Err())
	}
	var exit *exec.ExitError
	if p.Err != nil && !errors.As(p.Err, &exit) {
		return 0, p.Err
	}
	return p.Cmd.ProcessState.ExitCode(), nil
}

// Await waits until out, the process's Stdout or Stderr, has what found finds.
func (p *Process) Await(ctx context.Context, out *Output, what string, found func(text string) bool) error {
	for {
		text, grown := out.next()
		if found(text) {
			return nil
		}
		select {
		case <-grown:
		case <-p.Exited:
			if found(out.String()) {
				return nil
			}
			return fmt.Errorf("%q ended before %s: %w", p.Cmd.Args, what, errors.Join(p.Err, errors.New(p.Stderr.String())))
		case <-ctx.Done():
			return fmt.Errorf("%q: no %s: %w", p.Cmd.Args, what, ctx.Err())
		}
	}
}

// ServingFlags let a serve or a dev listen on ports that nobody has, and log as Serving
// reads it.
func ServingFlags() []string {
	return []string{"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--log-format", "json"}
}

// Addresses are where a node listens.
type Addresses struct{ HTTP, GRPC, Admin string }

// Serving waits for the log's line that says where the node listens.
func (p *Process) Serving(ctx context.Context) (at Addresses, err error) {
	err = p.Await(ctx, &p.Stderr, "log that it serves", func(text string) bool {
		for line := range strings.Lines(text) {
			var entry struct {
				Msg string
				Addresses
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				at = entry.Addresses
				return true
			}
		}
		return false
	})
	return at, err
}
