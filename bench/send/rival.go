//go:build unix

package send

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"github.com/postbus/postbus/bench/internal/rig"
)

// A rival is another program that answers once a message is on the disk. It runs as a
// process with a data folder of its own beside PostgreSQL's, on the same file system.
type rival struct {
	process *rig.Process
	addr    string
	folder  string
	ways    []way  // the best one last
	hangUp  func() // closes the clients' connections; nil while there are none
}

// A way is how a caller hands over the messages of one call. call returns when all of them
// are durable (TestRivalsStoreWhatTheyAnswer).
type way struct {
	name string
	call func(ctx context.Context, caller int) error
}

// startRival makes the data folder, starts what command makes for it, and connects as soon
// as that succeeds. Where it fails it leaves nothing behind
// (TestARivalThatCannotStartLeavesNothing).
func startRival(ctx context.Context, command func(folder, addr string) (*exec.Cmd, error), connect func(*rival) error) (_ *rival, err error) {
	addrs, err := rig.FreeAddrs(1)
	if err != nil {
		return nil, err
	}
	r := &rival{addr: addrs[0]}
	if r.folder, err = os.MkdirTemp("", "postbus-bench-rival-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.end())
		}
	}()
	cmd, err := command(r.folder, r.addr)
	if err != nil {
		return nil, err
	}
	if r.process, err = rig.StartProcess(cmd); err != nil {
		return nil, err
	}
	var last error
	reached := func() bool { last = connect(r); return last == nil }
	if err := r.process.Until(ctx, "ready", reached); err != nil {
		return nil, errors.Join(err, last)
	}
	return r, nil
}

// end ends the process and removes its data.
func (r *rival) end() error {
	if r.hangUp != nil {
		r.hangUp()
	}
	var err error
	if r.process != nil {
		err = r.process.End()
	}
	return errors.Join(err, os.RemoveAll(r.folder))
}
