package robust

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/proxy"
	"github.com/postbus/postbus/tests/robust/history"
	"github.com/postbus/postbus/tests/robust/validate"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "of the traffic and the faults; 0: ROBUST_SEED, else a fixed one")
	durationFlag = flag.Duration("duration", 0, "of each scenario's traffic; 0: ROBUST_TIME, else a short one")
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// settings returns the seed, how long each scenario's traffic lasts, and whether all of them
// run: only when a time is given, or a scenario is named.
func settings(t *testing.T) (seed uint64, lasts time.Duration, all bool) {
	t.Helper()
	seed, lasts = *seedFlag, *durationFlag
	if text := os.Getenv("ROBUST_SEED"); seed == 0 && text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	if text := os.Getenv("ROBUST_TIME"); lasts == 0 && text != "" {
		var err error
		lasts, err = time.ParseDuration(text)
		must(t, err)
	}
	all = lasts > 0 || strings.Contains(flag.Lookup("test.run").Value.String(), "/")
	if lasts == 0 {
		lasts = 3 * time.Second
	}
	return max(seed, 1), lasts, all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// G1 to G10: random traffic and faults, and every promise judged by what everybody was
// told.
func TestRobust(t *testing.T) {
	seed, lasts, all := settings(t)
	for _, s := range scenarios {
		if s.short || all {
			t.Run(s.name, func(t *testing.T) {
				if !all {
					t.Parallel() // it waits more than it works
				}
				s.run(t, seed, lasts)
			})
		}
	}
}

// run makes the traffic and judges it.
func (s *scenario) run(t *testing.T, seed uint64, lasts time.Duration) {
	r := s.begin(t, seed)
	t.Logf("seed %d, %v", seed, lasts)

	var senders, readers, faults sync.WaitGroup
	sending, stopSending := context.WithTimeout(t.Context(), lasts)
	defer stopSending()
	reading, stopReading := context.WithCancel(t.Context())
	defer stopReading()
	if s.wakes {
		r.wakes(sending, reading, &senders, &readers)
	} else {
		r.readers(reading, &readers)
		r.senders(sending, &senders)
	}
	if len(s.faults) > 0 {
		faults.Go(func() { r.disturb(sending, s.faults) })
	}
	senders.Wait()
	faults.Wait()

	ending, cancel := context.WithTimeout(t.Context(), 3*longest)
	defer cancel()
	r.fail(r.heal(ending))
	must(t, r.settleTruth(ending))
	truth, err := r.truth(ending)
	must(t, err)
	r.head.Store(truth.Head())
	late := time.AfterFunc(longest, stopReading)
	readers.Wait()
	late.Stop()
	truth, err = r.truth(ending)
	must(t, err)
	r.check(t, s)
	judge(t, s.name, seed, r.record.Finish(truth))
}

// begin starts a database and the nodes, and the truth's notes.
func (s *scenario) begin(t *testing.T, seed uint64) *run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*longest)
	defer cancel()
	r := &run{seed: seed, traffic: s.traffic}
	prepared := map[string]string{"max_prepared_transactions": "50"}
	if s.disk > 0 {
		r.disk = smallDisk(t, s.disk)
		prepared["max_wal_size"], prepared["fsync"] = "64MB", "off"
		r.server = r.disk.serverOn(t, ctx, prepared)
	} else {
		r.server = pgtest.Exclusive(t, prepared)
	}
	r.url = r.server.URL()
	r.head.Store(-1)
	for i := range s.nodes {
		p, err := proxy.Start(r.url)
		must(t, err)
		n := &node{name: string(rune('a' + i)), network: p, flags: s.flags}
		r.nodes = append(r.nodes, n)
		t.Cleanup(func() {
			if err := n.kill(); err != nil {
				t.Error(err)
			}
			p.Close()
			n.report(t)
		})
		must(t, n.start(ctx))
	}
	must(t, r.query(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, fmt.Sprintf(notes, s.slow))
		return err
	}))
	r.record = history.NewRecorder()
	return r
}

// report looks through what a node has said.
func (n *node) report(t *testing.T) {
	t.Helper()
	said := n.log()
	for _, bad := range []string{"DATA RACE", "panic: ", `"level":"ERROR"`} {
		if i := strings.Index(said, bad); i >= 0 {
			t.Errorf("node %s said\n%.4000s", n.name, said[max(0, i-500):])
		}
	}
}

// check judges what is no part of the history: the run itself, and the counters of the
// nodes when nothing went wrong.
func (r *run) check(t *testing.T, s *scenario) {
	t.Helper()
	for _, err := range r.errs {
		t.Error(err)
	}
	if len(s.faults) > 0 {
		return
	}
	for _, n := range r.nodes {
		zero := []string{"postbus_tail_reconnects_total"}
		if s.wakes { // a prepared transaction rings no bell when it ends
			zero = append(zero, "postbus_missed_bells_total")
		}
		for _, name := range zero {
			value, err := n.up().metric(t.Context(), name)
			must(t, err)
			if value != 0 {
				t.Errorf("node %s: %s is %v in a run without faults", n.name, name, value)
			}
		}
	}
}

// judge asks every promise, and keeps the history if one is broken.
func judge(t *testing.T, name string, seed uint64, h *history.History) {
	t.Helper()
	outcomes, given, gaps := map[history.Outcome]int{}, 0, 0
	for _, s := range h.Sends {
		outcomes[s.Outcome]++
	}
	for _, r := range h.Responses {
		given += len(r.Notifications)
		if r.Gap != nil {
			gaps++
		}
	}
	t.Logf("%d rows; sends: %v; %d responses with %d notifications and %d gaps; %d faults",
		len(h.Truth.Rows), outcomes, len(h.Responses), given, gaps, len(h.Faults))
	for _, promise := range validate.Promises() {
		broken := promise.Broken(h)
		if len(broken) > 0 {
			t.Errorf("%s: broken in %d ways\n%s", promise.Name, len(broken), strings.Join(broken[:min(len(broken), 8)], "\n"))
		}
	}
	if t.Failed() {
		folder := os.Getenv("ROBUST_DIR")
		if folder == "" {
			var err error // a folder that stays, unlike the test's own
			folder, err = os.MkdirTemp("", "postbus-robust-")
			must(t, err)
		}
		folder = filepath.Join(folder, name+"-"+strconv.FormatUint(seed, 10))
		if err := h.Write(folder); err != nil {
			t.Error(err)
		}
		t.Logf("the history is in %s; again: go test ./tests/robust -run 'TestRobust/%s' -seed %d", folder, name, seed)
	}
}
