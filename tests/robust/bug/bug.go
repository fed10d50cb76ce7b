// Package bug plants mistakes in the program, so that the robustness suite can show that it
// would find them. A Bug is a small edit of the sources, laid over them while the program
// is compiled (go build -overlay, which embedded files see too): the product itself carries
// no hook for any test.
//
// An edit names text that occurs exactly once in its file. When the product changes there,
// TestEveryBugStillApplies fails and the bug is written anew, so that the list cannot rot.
package bug

import (
	"fmt"
	"slices"
	"strings"
)

// A Bug is one mistake of the kind that people make in a bus.
type Bug struct {
	Name    string // words joined by hyphens
	Promise string // which it breaks, as docs/guarantees.md numbers them
	Mistake string // why somebody would write it
	Seen    string // what a user would see
	Edits   []Edit

	// Scenarios of the robustness suite in which it must be found, any of them is enough.
	Scenarios []string
	// Test, in place of Scenarios, is a test of the guarantees that must fail with it.
	Test string
}

// An Edit replaces one piece of one file. Old occurs exactly once in it.
type Edit struct {
	File     string // from the module's root
	Old, New string
}

// All returns every bug, grouped as the files of this package are.
func All() []Bug {
	return slices.Concat(settling(), sleeping(), window(), riding(), cursors(), sending(), schema())
}

// Find returns the bug of that name.
func Find(name string) (Bug, error) {
	for _, b := range All() {
		if b.Name == name {
			return b, nil
		}
	}
	return Bug{}, fmt.Errorf("no planted bug has the name %q", name)
}

// apply returns text with e applied.
func (e Edit) apply(text string) (string, error) {
	if n := strings.Count(text, e.Old); n != 1 {
		return "", fmt.Errorf("%s: the text to be replaced occurs %d times, want once:\n%s", e.File, n, e.Old)
	}
	return strings.Replace(text, e.Old, e.New, 1), nil
}

// deaf takes away the read that finds within a second what a lost wake-up has missed:
// without it such a loss lasts, and shows.
func deaf() Edit {
	return Edit{
		File: "internal/dispatch/dispatch.go",
		Old:  "		o.Fallback = time.Second\n",
		New:  "		o.Fallback = time.Hour\n",
	}
}

// Deaf is no bug: the sound program without the fallback read. What a bug of the
// wake-ups is found by must find nothing in it.
func Deaf() Bug {
	return Bug{Name: "no-fallback", Edits: []Edit{deaf()}}
}

// TableHead is the head of the table of docs/guarantees.md, which the suite prints and
// TestGuaranteesListEveryBug reads.
const TableHead = `| bug | promise | what a user would see | scenario | found by | after |
|---|---|---|---|---|---|
`
