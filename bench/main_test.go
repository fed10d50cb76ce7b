//go:build unix

package main

import (
	"strings"
	"testing"
)

// The README, and whoever runs one benchmark again, name them.
func TestListNamesTheBenchmarks(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"-list"}, nil, &out); err != nil {
		t.Fatal(err)
	}
	const want = `send/1x1 send/8x1 send/64x1 send/256x1 send/1x100 send/8x100 send/64x100 send/256x100 sql/1 sql/8 sql/32
		latency/30 latency/1000 latency/half streams idle fanout httpfanout/SSE httpfanout/WebSocket httpfanout/long-poll
		pollqueries idlers growth readers`
	if got := strings.Join(strings.Fields(out.String()), " "); got != strings.Join(strings.Fields(want), " ") {
		t.Errorf("listed %s", got)
	}
}

func TestEveryRoleIsAProgramOfItsOwnName(t *testing.T) {
	named := map[string]bool{}
	for _, each := range roles() {
		if each.Name == "" || each.Play == nil || named[each.Name] {
			t.Errorf("role %q has no name, nothing to play, or another's name", each.Name)
		}
		named[each.Name] = true
	}
	if len(named) != 7 {
		t.Errorf("%d roles, want 7: %v", len(named), named)
	}
	if err := run(t.Context(), []string{"sink"}, strings.NewReader(""), nil); err == nil || !strings.Contains(err.Error(), "sink: 0 arguments") {
		t.Errorf("the role of a sink: %v", err)
	}
}

func TestArgumentsThatSayNothingAreRefused(t *testing.T) {
	for args, want := range map[string]string{
		"-run nothing":             "no benchmark matches",
		"-run nothing -reps 0":     "at least 1",
		"-run nothing -length 1ms": "at least 100ms",
		"-run nothing something":   "no such argument",
		"-run (":                   "-run:",
	} {
		if err := run(t.Context(), strings.Fields(args), nil, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", args, err, want)
		}
	}
}
