//go:build unix

package rig

import (
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a process says that crashes is in the error of whoever ends it: all that others see
// of it is that their connections broke.
func TestEndTellsOfAProcessThatEndedByItself(t *testing.T) {
	const ready = "echo ready; while :; do sleep 0.01; done"
	for name, c := range map[string]struct {
		script string
		early  bool   // it ends before it is asked to
		says   string // "": no error
	}{
		"asked":              {"trap 'exit 0' TERM;" + ready, false, ""},
		"asked, by a signal": {ready, false, ""},
		"asked, and failed":  {"trap 'exit 1' TERM;" + ready, false, ""}, // its owner's affair
		"crashes meanwhile":  {"trap 'echo panic: late; exit 2' TERM;" + ready, false, "panic: late"},
		"crashed":            {"echo panic: early >&2; exit 2", true, "panic: early"},
		"left":               {"echo good bye", true, "good bye"},
		"killed":             {"echo so long; kill -9 $$", true, "signal: killed: so long"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := StartProcess(exec.CommandContext(t.Context(), "sh", "-c", c.script))
			if err != nil {
				t.Fatal(err)
			}
			if c.early {
				<-p.exited
			} else if err := p.Until(t.Context(), "ready", func() bool { return strings.Contains(p.Said(), "ready") }); err != nil {
				t.Fatal(err)
			}
			err = p.End()
			if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want an error that says %q", err, c.says)
			}
			if err := p.End(); err != nil {
				t.Errorf("told twice: %v", err)
			}
		})
	}
}
