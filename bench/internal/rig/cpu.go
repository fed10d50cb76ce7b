//go:build unix

package rig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/postbus/postbus/bench/internal/compare"
)

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 on every
// Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// A Meter measures what is spent from its begin on.
type Meter struct {
	servers    []int // process numbers
	postmaster int   // process number; 0: there is none
	Began      time.Time
	before     compare.Usage
}

// NewMeter begins to measure servers and the database of that postmaster; 0: there is none.
func NewMeter(postmaster int, servers ...int) (*Meter, error) {
	m := &Meter{servers: servers, postmaster: postmaster}
	var err error
	m.before, err = m.read()
	m.Began = time.Now()
	return m, err
}

// Sample returns what was spent since the begin, with figures beside it.
func (m *Meter) Sample(figures ...float64) (compare.Sample, error) {
	wall := time.Since(m.Began)
	now, err := m.read()
	return compare.Sample{Figures: figures, Wall: wall, CPU: compare.Usage{
		Client:   now.Client - m.before.Client,
		Server:   now.Server - m.before.Server,
		Database: now.Database - m.before.Database,
	}}, err
}

// ServerTime returns what the servers alone have spent since the begin.
func (m *Meter) ServerTime() (time.Duration, error) {
	now, err := m.readServers()
	return now - m.before.Server, err
}

func (m *Meter) read() (compare.Usage, error) {
	var u compare.Usage
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return u, fmt.Errorf("getrusage: %w", err)
	}
	u.Client = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	var err error
	if u.Server, err = m.readServers(); err != nil {
		return u, err
	}
	if m.postmaster != 0 {
		if u.Database, err = clusterCPU(m.postmaster); err != nil {
			return u, err
		}
	}
	return u, nil
}

func (m *Meter) readServers() (total time.Duration, err error) {
	for _, server := range m.servers {
		stat, err := readStat(strconv.Itoa(server))
		if err != nil {
			return 0, err
		}
		total += stat.own
	}
	return total, nil
}

// A stat is what /proc says about a process.
type stat struct {
	parent      int
	own, reaped time.Duration // CPU time: its own, and that of children it has waited for
}

func readStat(pid string) (stat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return stat{}, err
	}
	// The second field is the program's name in parentheses, which may have any bytes.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("/proc/%s/stat: %d fields, at least 17", pid, len(fields)+2)
	}
	numbers := make([]int64, 5)
	for i, field := range []int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		if numbers[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return stat{}, fmt.Errorf("/proc/%s/stat: %w", pid, err)
		}
	}
	return stat{
		parent: int(numbers[0]),
		own:    time.Duration(numbers[1]+numbers[2]) * clockTick,
		reaped: time.Duration(numbers[3]+numbers[4]) * clockTick,
	}, nil
}

// clusterCPU sums up the postmaster, its children, and those that have ended.
func clusterCPU(postmaster int) (time.Duration, error) {
	root, err := readStat(strconv.Itoa(postmaster))
	if err != nil {
		return 0, err
	}
	total := root.own + root.reaped
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		// One that cannot be read has just ended: it is among the reaped next time.
		if each, err := readStat(entry.Name()); err == nil && each.parent == postmaster {
			total += each.own
		}
	}
	return total, nil
}

// residentBytes returns the resident memory of a process.
func residentBytes(pid int) (float64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kilobytes * 1024, err
		}
	}
	return 0, fmt.Errorf("%s: no VmRSS", path)
}
