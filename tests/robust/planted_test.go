package robust

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/tests/process"
	"github.com/postbus/postbus/tests/robust/bug"
)

var (
	plantedFlag = flag.Bool("planted", false, "plant every bug of package bug, not only the first")
	bugFlag     = flag.String("bug", "", "plant the bug of this name only")
	seedsFlag   = flag.Int("seeds", 4, "how many seeds a planted bug is given to show")
)

// A sighting is how a planted bug was found.
type sighting struct {
	scenario   string
	validators []string
	seed       uint64
	after      time.Duration // of running, with the seeds that showed nothing
}

// Every planted bug is found, by a validator of the history: that a program crashes, or a
// run does not end, finds nothing. The suite that finds these and is content with the
// program without them is worth something.
func TestPlantedBugsAreFound(t *testing.T) {
	first, lasts, _ := settings(t)
	planted := bug.All()
	switch {
	case *bugFlag != "":
		b, err := bug.Find(*bugFlag)
		must(t, err)
		planted = []bug.Bug{b}
	case !*plantedFlag:
		planted = planted[:1]
	}
	var table strings.Builder
	for _, b := range planted {
		t.Run(b.Name, func(t *testing.T) {
			found, err := hunt(t, b, first, lasts)
			must(t, err)
			t.Logf("%s: found in %s by %s, seed %d, after %v", b.Name, found.scenario, strings.Join(found.validators, ", "), found.seed, found.after.Round(time.Second))
			fmt.Fprintln(&table, found.row(b))
		})
	}
	if *plantedFlag || *bugFlag != "" {
		fmt.Printf("%s%s", bug.TableHead, table.String())
	}
}

// row is the sighting as docs/guarantees.md shows it.
func (s sighting) row(b bug.Bug) string {
	seeds := ""
	if s.seed > 1 {
		seeds = fmt.Sprintf(", %d seeds", s.seed)
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %d s%s |", b.Name, b.Promise, b.Seen, s.scenario, strings.Join(s.validators, ", "), int(s.after.Seconds()), seeds)
}

// hunt runs the scenarios in which b must show, seed after seed, until a validator has seen it.
func hunt(t *testing.T, b bug.Bug, first uint64, lasts time.Duration) (sighting, error) {
	if b.Test != "" {
		return mustFail(t, b)
	}
	program := b.Build(t)
	began := time.Now()
	var said string
	for seed := first; seed < first+uint64(*seedsFlag); seed++ {
		for _, name := range b.Scenarios {
			validators, output, err := runAside(t, program, name, seed, lasts)
			if len(validators) > 0 {
				return sighting{name, validators, seed - first + 1, time.Since(began)}, nil
			}
			if err != nil {
				return sighting{}, fmt.Errorf("%s, seed %d: no validator has found it, but: %w\n%s", name, seed, err, output)
			}
			said = output
		}
	}
	return sighting{}, fmt.Errorf("not found in %v by %d seeds of %v each; the last said\n%s", b.Scenarios, *seedsFlag, lasts, said)
}

// broken is what judge says of a validator that has found something.
var broken = regexp.MustCompile(`(?m)^\s+\w+\.go:\d+: (\w+): broken in \d+ ways`)

// runAside runs one scenario with the program in a process of its own and returns the
// validators that have found something.
func runAside(t *testing.T, program, name string, seed uint64, lasts time.Duration) (validators []string, output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lasts+5*longest)
	defer cancel()
	pattern := "^TestRobust$/^" + name + "$"
	if name == quietName {
		pattern = "^TestNoWakeUpIsLost$"
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", pattern, "-test.v", "-seed", fmt.Sprint(seed), "-duration", fmt.Sprint(lasts))
	cmd.Env = append(process.Environment(), "POSTBUS_ROBUST_PROGRAM="+program, "ROBUST_DIR="+t.TempDir())
	for _, kept := range os.Environ() {
		if strings.HasPrefix(kept, "POSTBUS_TEST_") {
			cmd.Env = append(cmd.Env, kept)
		}
	}
	text, err := cmd.CombinedOutput()
	for _, found := range broken.FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(validators, found[1]) {
			validators = append(validators, found[1])
		}
	}
	return validators, string(text), err
}

// mustFail runs a test of the guarantees with the bug, which must fail.
func mustFail(t *testing.T, b bug.Bug) (sighting, error) {
	began := time.Now()
	said, err := b.Go(t.Context(), t.TempDir(), "test", "-count=1", "-run", "^"+b.Test+"$", "./tests")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return sighting{}, fmt.Errorf("%s passes with the bug", b.Test)
	case !errors.As(err, &exit) || !strings.Contains(said, "--- FAIL: "+b.Test+" "):
		return sighting{}, fmt.Errorf("%s: %w\n%s", b.Test, err, said)
	}
	return sighting{"tests", []string{"`" + b.Test + "`"}, 1, time.Since(began)}, nil
}
