//go:build unix

package embedded

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNothingOutlivesAKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux signals the children of a killed process")
	}
	folder := newFolder(t)
	parent, _, said := startParent(t, folder, nil)
	mustAsk(t, said.URL, "CREATE TABLE kept AS SELECT 'here'::text AS word")
	pids := family(t, said.PID)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, pids)

	server := startIn(t, folder)
	if got := mustAsk(t, server.URL(), "SELECT word FROM kept"); got != "here" {
		t.Errorf("after the program was killed the table holds %q", got)
	}
}

func TestStartTakesOverWhileTheKilledParentsServerStops(t *testing.T) {
	folder := newFolder(t)
	parent, _, said := startParent(t, folder, nil)
	mustAsk(t, said.URL, "CREATE TABLE kept AS SELECT 'here'::text AS word")
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // the lock is free when the process is gone
	server := startIn(t, folder)
	mustAsk(t, server.URL(), "SELECT word FROM kept")
}

// TestLeftoverServerIsEnded has a server that no parent-death signal ended, and that is
// frozen besides.
func TestLeftoverServerIsEnded(t *testing.T) {
	folder := newFolder(t)
	server := startIn(t, folder)
	mustAsk(t, server.URL(), "CREATE TABLE kept AS SELECT 'here'::text AS word")
	stop(t, server)
	leftover := server.program(t.Context(), "postgres", "-D", server.cluster)
	if err := leftover.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { defer close(reaped); _ = leftover.Wait() }()
	err := poll(t.Context(), 20*time.Second, func() (bool, error) {
		file, err := readPidFile(server.cluster)
		return err == nil && file.ready, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pids := family(t, leftover.Process.Pid)
	if err := leftover.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	next := startIn(t, folder)
	if took := time.Since(began); took > endFast.patience {
		t.Errorf("the leftover was in the way for %s", took)
	}
	mustAsk(t, next.URL(), "SELECT word FROM kept")
	awaitGone(t, pids)
	<-reaped
}

// TestRestartWaitsForAKilledServersProcesses has one that takes its time.
func TestRestartWaitsForAKilledServersProcesses(t *testing.T) {
	server := startIn(t, newFolder(t))
	slow := family(t, server.PID())[0]
	if err := syscall.Kill(slow, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	restarted := make(chan error, 1)
	go func() { restarted <- server.Restart(t.Context()) }()
	refused := poll(t.Context(), 10*time.Second, func() (bool, error) {
		log, err := os.ReadFile(filepath.Join(server.DataDir(), "server.log"))
		return strings.Contains(string(log), "pre-existing shared memory block"), err
	})
	if err := syscall.Kill(slow, syscall.SIGCONT); err != nil {
		t.Error(err)
	}
	if refused != nil {
		t.Error("the slow process was not in the way:", refused)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	mustAsk(t, server.URL(), "SELECT 'back'")
}

func TestReusedProcessNumberIsNoLeftover(t *testing.T) {
	folder := newFolder(t)
	server := startIn(t, folder)
	stop(t, server)
	bystander := server.program(t.Context(), "/bin/sleep", "60")
	bystander.Path, bystander.Err = exec.LookPath("sleep")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	text := fmt.Sprintf("%d\n%s\n0\n1\n\n127.0.0.1\n\nready\n", bystander.Process.Pid, server.cluster)
	if err := os.WriteFile(filepath.Join(server.cluster, "postmaster.pid"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	next := startIn(t, folder)
	mustAsk(t, next.URL(), "SELECT 'started'")
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process that is no PostgreSQL was ended: %v", err)
	}
}

// TestServerIgnoresTheTerminal: Ctrl-C reaches the program's process group.
func TestServerIgnoresTheTerminal(t *testing.T) {
	server := startIn(t, newFolder(t))
	group, err := syscall.Getpgid(server.PID())
	if err != nil {
		t.Fatal(err)
	}
	if group == syscall.Getpgrp() {
		t.Error("the server is in the program's process group")
	}
}

func TestUnprivilegedUserStartsAServer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("every other test does")
	}
	folder := newFolder(t)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	if err := os.Chown(folder, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	parent, stdin, said := startParent(t, folder, nobody)
	mustAsk(t, said.URL, "CREATE TABLE kept AS SELECT 'here'::text AS word")
	pids := family(t, said.PID)
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err != nil {
		t.Error(err)
	}
	awaitGone(t, pids)

	// Root continues the data as their owner.
	server := startIn(t, folder)
	mustAsk(t, server.URL(), "SELECT word FROM kept")
	stop(t, server)

	killed, _, said := startParent(t, folder, nobody)
	pids = family(t, said.PID)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, pids)
}

func TestForbiddenFolderIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's server is another user")
	}
	closed := filepath.Join(newFolder(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := begin(t.Context(), Options{DataDir: filepath.Join(closed, "data")})
	if err == nil || !strings.Contains(err.Error(), "cannot enter "+closed+" ") {
		t.Errorf("the error does not name %s: %v", closed, err)
	}
}
