//go:build unix

// Command bench measures what the README says about speed and size, and prints it as
// Markdown. It asserts nothing: each table has its goal beside the figures.
//
//	go run ./bench [-run REGEXP] [-reps 5] [-quick]
//
// Every benchmark gets a PostgreSQL of its own (fsync and synchronous_commit on) below
// TMPDIR and, where it needs one, `postbus serve` as a process of its own. Wall time alone
// says little on a busy machine, so three things are done about that. What is compared runs
// in turns, in an order that rotates, after one warm-up each. Ratios are made within a
// repetition, and then their median is taken. And the CPU time of all processes stands
// beside. The spread of a thing against itself says which differences mean nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one run of the program: what to measure, how long, and where to print.
type bench struct {
	reps    int           // repetitions, beside the warm-up
	length  time.Duration // of a repetition of send and sql
	quick   bool
	program string // cmd/postbus, built
	out     io.Writer
}

// pick returns the first length, or the second when the run is to be quick.
func (b *bench) pick(usual, quick time.Duration) time.Duration {
	if b.quick {
		return quick
	}
	return usual
}

// A benchmark is one section of the report.
type benchmark struct {
	name string
	run  func(*bench, context.Context) error
}

func benchmarks() []benchmark {
	return []benchmark{
		{"send", (*bench).send},
		{"sql", (*bench).sql},
		{"latency", (*bench).latency},
		{"streams", (*bench).streams},
		{"idle", (*bench).idle},
		{"fanout", (*bench).fanout},
		{"idlers", (*bench).idlers},
		{"growth", (*bench).growth},
		{"readers", (*bench).manyReaders},
	}
}

// run is the program. Beside the benchmarks it plays the parts that need a process of
// their own: the servers to compare with, and the client that holds many streams.
func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "echo-server":
			return echoServer(in, out)
		case "loop-server":
			return loopServer(ctx, in, out)
		case "stream-client":
			return streamClient(ctx, args[1:], in, out)
		case "sink":
			return sinkPart(ctx, args[1:], in, out)
		case "http-readers":
			return httpPart(ctx, args[1:], in, out)
		case "bare-server":
			return bareServer(in, out)
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	pattern := flags.String("run", "", "only the benchmarks whose names match: send, sql, latency, streams, idle, fanout, idlers, growth, readers")
	reps := flags.Int("reps", 5, "repetitions of each benchmark, 1 or more, beside the warm-up")
	length := flags.Duration("length", 3*time.Second, "length of a repetition of send and sql, 100ms or more")
	quick := flags.Bool("quick", false, "short repetitions: 1 s of send and sql, 5 s of latency and idle")
	if err := flags.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(*pattern)
	switch {
	case err != nil:
		return fmt.Errorf("-run: %w", err)
	case flags.NArg() > 0:
		return fmt.Errorf("%q: no such argument", flags.Arg(0))
	case *reps < 1:
		return fmt.Errorf("-reps: %d, at least 1", *reps)
	case *length < 100*time.Millisecond:
		return fmt.Errorf("-length: %s, at least 100ms", *length)
	}
	if *quick {
		*length = time.Second
	}
	b := &bench{reps: *reps, length: *length, quick: *quick, out: out}
	return b.runMatching(ctx, only)
}

func (b *bench) runMatching(ctx context.Context, only *regexp.Regexp) error {
	folder, err := os.MkdirTemp("", "postbus-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	b.program = filepath.Join(folder, "postbus")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.program, "github.com/postbus/postbus/cmd/postbus")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build cmd/postbus: %w\n%s", err, text)
	}
	fmt.Fprintf(b.out, "%s, %d cores, %s, %s. Medians of %d repetitions after a warm-up, in turns; (least–most) behind them.\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), processor(), runtime.Version(), b.reps)
	ran := false
	for _, each := range benchmarks() {
		if !only.MatchString(each.name) {
			continue
		}
		ran = true
		if err := each.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", each.name, err)
		}
	}
	if !ran {
		return fmt.Errorf("-run: no benchmark matches %q", only)
	}
	return nil
}

// processor returns the machine's name for its processor.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
