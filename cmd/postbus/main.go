// Command postbus is the notification bus: the server (serve, dev, migrate), and
// what sends to it and reads from it on a command line (send, tail).
//
// Exit codes: 0 as asked, 1 failed, 2 misuse: a command line that cannot be obeyed
// as it stands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	exitFailed = 1
	exitMisuse = 2
)

func main() {
	os.Exit(run())
}

// run executes the command line and returns the exit code.
func run() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // until the process ends
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "postbus: stopped by a second signal")
		os.Exit(exitFailed)
	}()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "postbus:", describe(err))
	return exitCode(err)
}

// exitCode tells misuse, the server's view of it included, from failure.
func exitCode(err error) int {
	var misused misuseError
	if errors.As(err, &misused) || status.Code(err) == codes.InvalidArgument {
		return exitMisuse
	}
	return exitFailed
}

// describe returns err as one line; of a status only what the server said.
func describe(err error) string {
	text := err.Error()
	var answered interface{ GRPCStatus() *status.Status }
	if errors.As(err, &answered) {
		s := answered.GRPCStatus()
		text = fmt.Sprintf("%s: %s", code.Code(s.Code()), s.Message())
	}
	return strings.Join(strings.Fields(text), " ")
}
