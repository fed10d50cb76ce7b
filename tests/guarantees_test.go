package tests

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/postbus/postbus/service"
)

// docs/guarantees.md names, for each promise, tests that exist, and every reason that an
// error can have.
func TestGuaranteesNameTestsAndReasonsThatExist(t *testing.T) {
	page, err := os.ReadFile("../docs/guarantees.md")
	must(t, err)
	text := string(page)

	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	must(t, fs.WalkDir(os.DirFS(".."), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile("../" + path)
		for _, name := range declared.FindAllStringSubmatch(string(source), -1) {
			tests[name[1]] = true
		}
		return err
	}))
	_, promises, _ := strings.Cut(text, "## The promises")
	promises, _, _ = strings.Cut(promises, "## After a failed Send")
	sections := strings.Split(promises, "### G")[1:]
	if len(sections) != 10 {
		t.Fatalf("%d promises, want 10", len(sections))
	}
	named := regexp.MustCompile("`(Test\\w+)`")
	for i, section := range sections {
		if !strings.HasPrefix(section, fmt.Sprint(i+1, " ")) {
			t.Errorf("promise %d begins %.20q", i+1, section)
		}
		names := named.FindAllStringSubmatch(section, -1)
		if len(names) == 0 {
			t.Errorf("G%d names no test", i+1)
		}
		for _, name := range names {
			if !tests[name[1]] {
				t.Errorf("G%d names %s, which does not exist", i+1, name[1])
			}
		}
	}

	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(text, -1) {
		listed[row[1]] = true
	}
	for _, reason := range service.Reasons() {
		if !listed[reason] {
			t.Errorf("the reason %s is not listed", reason)
		}
		delete(listed, reason)
	}
	for reason := range listed {
		t.Errorf("%s is listed and no reason of the service", reason)
	}
}
