//go:build unix

// Command bench measures what the README says about speed and size, and prints it as
// Markdown. It asserts nothing: each table has its goal beside the figures.
//
//	go -C bench run . [-run REGEXP] [-reps 5] [-length 1s] [-quick]
//
// -list names the benchmarks: send/64x100 is Send with 64 callers and 100 messages a call.
// The last table has all goals, and whether they were reached.
//
// Every benchmark gets a PostgreSQL of its own (fsync and synchronous_commit on) below
// TMPDIR and, where it needs one, `postbus serve` as a process of its own. Wall time alone
// says little on a busy machine, so three things are done about that. What is compared runs
// in turns, in an order that rotates, after one warm-up each. Ratios are made within a
// repetition, and then their median is taken. And the CPU time of all processes stands
// beside. The spread of a thing against itself says which differences mean nothing.
//
// Each family of benchmarks is a package: send (and sql), latency, fanout (and httpfanout), idle
// (and streams, idlers, pollqueries), growth and readers. Below them, the arrows go down:
//
//	internal/sink     readers of every transport, as cheap as can be
//	internal/bare     servers that do the same on the wire, and nothing behind it
//	internal/rig      nodes, databases, processes, the CPU time of all
//	internal/compare  turns, ratios, statistics, tables, goals
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/postbus/postbus/bench/fanout"
	"github.com/postbus/postbus/bench/growth"
	"github.com/postbus/postbus/bench/idle"
	"github.com/postbus/postbus/bench/internal/bare"
	"github.com/postbus/postbus/bench/internal/compare"
	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
	"github.com/postbus/postbus/bench/latency"
	"github.com/postbus/postbus/bench/readers"
	"github.com/postbus/postbus/bench/send"
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

// A benchmark is one section of the report.
type benchmark struct {
	name string
	run  func(context.Context, *rig.Bench) error
}

func benchmarks() []benchmark {
	var all []benchmark
	for _, size := range []int{1, 100} {
		for _, callers := range []int{1, 8, 64, 256} {
			all = append(all, benchmark{fmt.Sprintf("send/%dx%d", callers, size), func(ctx context.Context, b *rig.Bench) error {
				return send.RPC(ctx, b, callers, size)
			}})
		}
	}
	for _, writers := range []int{1, 8, 32} {
		all = append(all, benchmark{fmt.Sprintf("sql/%d", writers), func(ctx context.Context, b *rig.Bench) error {
			return send.SQL(ctx, b, writers)
		}})
	}
	return append(all,
		benchmark{"latency/30", func(ctx context.Context, b *rig.Bench) error { return latency.Run(ctx, b, 30) }},
		benchmark{"latency/1000", func(ctx context.Context, b *rig.Bench) error { return latency.Run(ctx, b, 1000) }},
		benchmark{"latency/half", func(ctx context.Context, b *rig.Bench) error { return latency.Run(ctx, b, latency.HalfOfHighest) }},
		benchmark{"streams", idle.Streams},
		benchmark{"idle", idle.Node},
		benchmark{"fanout", fanout.Streams},
		benchmark{"httpfanout/SSE", func(ctx context.Context, b *rig.Bench) error { return fanout.Web(ctx, b, sink.Events) }},
		benchmark{"httpfanout/WebSocket", func(ctx context.Context, b *rig.Bench) error { return fanout.Web(ctx, b, sink.Sockets) }},
		benchmark{"httpfanout/long-poll", func(ctx context.Context, b *rig.Bench) error { return fanout.Web(ctx, b, sink.Polls) }},
		benchmark{"pollqueries", idle.PollQueries},
		benchmark{"idlers", idle.Readers},
		benchmark{"growth", growth.Run},
		benchmark{"readers", readers.Run},
	)
}

// roles are the parts that need a process of their own: the servers to compare with, and
// the clients that hold many streams.
func roles() []rig.Role {
	return slices.Concat(bare.Roles(), sink.Roles(), idle.Roles(), latency.Roles())
}

// run is the program. Beside the benchmarks it plays the roles.
func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		for _, each := range roles() {
			if each.Name == args[0] {
				return each.Play(ctx, args[1:], in, out)
			}
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	pattern := flags.String("run", "", "only the benchmarks whose names match, such as '^send/64x1$'")
	list := flags.Bool("list", false, "print the names of the benchmarks and end")
	reps := flags.Int("reps", 5, "repetitions of what has a main goal, 1 or more, beside the warm-up; the others take half as many")
	length := flags.Duration("length", time.Second, "length of a repetition of send and sql, 100ms or more; those with a main goal take twice as long")
	quick := flags.Bool("quick", false, "few and short repetitions: -reps 2 -length 500ms, and shorter latency and idle")
	if err := flags.Parse(args); err != nil {
		return err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *quick && !given["reps"] {
		*reps = 2
	}
	if *quick && !given["length"] {
		*length = 500 * time.Millisecond
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
	if *list {
		for _, each := range benchmarks() {
			fmt.Fprintln(out, each.name)
		}
		return nil
	}
	b := &rig.Bench{Reps: *reps, Length: *length, Quick: *quick, Out: &compare.Report{Writer: out}}
	return runMatching(ctx, b, only)
}

// runMatching runs benchmarks one after the other. One that fails says so in the report,
// and the others are run all the same.
func runMatching(ctx context.Context, b *rig.Bench, only *regexp.Regexp) (err error) {
	var chosen []benchmark
	for _, each := range benchmarks() {
		if only.MatchString(each.name) {
			chosen = append(chosen, each)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-run: no benchmark matches %q", only)
	}
	if b.Folder, err = os.MkdirTemp("", "postbus-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.Folder)) }()
	b.Program = filepath.Join(b.Folder, "postbus")
	if err := buildPostbus(ctx, b.Program); err != nil {
		return err
	}
	fmt.Fprintf(b.Out, "%s, %d cores, %s, %s. Medians of %d repetitions (%d where the goals are not) after a warm-up, in turns; (least–most) behind them.\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), processor(), runtime.Version(), b.Reps, b.Fewer())
	var failures []error
	for _, each := range chosen {
		b.Out.Benchmark = each.name
		began := time.Now()
		if err := each.run(ctx, b); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", each.name, err))
			b.Out.Failed(err)
		}
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(os.Stderr, "%s took %s\n", each.name, time.Since(began).Round(time.Second))
	}
	b.Out.Summary()
	return errors.Join(failures...)
}

// buildPostbus builds cmd/postbus with the dependencies of its own module, not with ours.
func buildPostbus(ctx context.Context, program string) error {
	folder, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/postbus/postbus").Output()
	if err != nil {
		return fmt.Errorf("find Postbus (the bench runs in its own folder: go -C bench run .): %w", err)
	}
	return rig.Build(ctx, strings.TrimSpace(string(folder)), program, "./cmd/postbus")
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
