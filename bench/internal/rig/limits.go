//go:build unix

package rig

import (
	"fmt"
	"syscall"
	"time"
)

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
