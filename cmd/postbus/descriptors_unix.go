//go:build unix

package main

import "syscall"

// descriptors returns how many files and connections this process may have open.
func descriptors() (int64, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return int64(min(limit.Cur, 1<<40)), true // unlimited is more than fits
}
