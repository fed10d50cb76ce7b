//go:build unix

package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A Part is this program as another process. It says "ready" (and where), answers
// one line for each that it is asked, and ends when its input does.
type Part struct {
	*Process
	in   io.WriteCloser
	out  *bufio.Reader
	pipe *os.File
	Addr string // what it said behind "ready"
}

// StartPart starts the part of that name and returns when it is ready.
func StartPart(ctx context.Context, patience time.Duration, env []string, args ...string) (*Part, error) {
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
	p, err := StartProcess(cmd)
	if err != nil {
		return nil, errors.Join(err, reader.Close(), writer.Close())
	}
	c := &Part{Process: p, in: in, out: bufio.NewReader(reader), pipe: reader}
	if err := writer.Close(); err != nil {
		return nil, errors.Join(err, c.End())
	}
	line, err := c.Line(patience)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", args[0], err), c.End())
	}
	if _, err := fmt.Sscanf(line, "ready %s", &c.Addr); err != nil {
		return nil, errors.Join(fmt.Errorf("%s said %q, not ready: %w", args[0], line, err), c.End())
	}
	return c, nil
}

// Ask writes a line and returns the answer.
func (c *Part) Ask(line string) (string, error) {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return "", err
	}
	return c.Line(endPatience)
}

// Line returns the next line that the part says.
func (c *Part) Line(patience time.Duration) (string, error) {
	if err := c.pipe.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := c.out.ReadString('\n')
	if err == nil {
		return line, nil
	}
	if errors.Is(err, io.EOF) {
		if waited := c.wait(); waited != nil {
			return "", waited
		}
		return "", c.failure()
	}
	return "", fmt.Errorf("waited %s for a line: %w", patience, err)
}

// End closes its input and waits for its end.
func (c *Part) End() error {
	failed := c.untoldFailure()
	_ = c.in.Close() // closed already when the process has ended
	return errors.Join(failed, c.wait(), c.pipe.Close())
}

// Tell writes a line that is not answered, or later.
func (c *Part) Tell(words ...any) error {
	_, err := fmt.Fprintln(c.in, words...)
	return err
}

// Resident returns the memory of a part that obeys, after a forced collection.
func (c *Part) Resident() (float64, error) {
	if _, err := c.Ask("free"); err != nil {
		return 0, err
	}
	return residentBytes(c.PID())
}

const (
	// OpenPatience is how long many streams have to open.
	OpenPatience = 2 * time.Minute

	// spareFiles is what a process opens beside the connections of its streams.
	spareFiles = 200
)

// NeedFiles returns an error unless a process may have so many connections.
func NeedFiles(conns int) error {
	// Go raises the soft limit to the hard one at the start of every process.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if files.Max < uint64(conns+spareFiles) {
		return fmt.Errorf("%d files may be open at once (ulimit -Hn), at least %d are needed", files.Max, conns+spareFiles)
	}
	return nil
}
