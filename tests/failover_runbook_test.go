package tests

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// docs/operations.md names tests that exist.
func TestRunbookNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	names := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1)
	if len(names) < 7 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, name := range names {
		if err := exec.Command("grep", "-rqw", "--include=*_test.go", "func "+string(name[1]), "..").Run(); err != nil {
			t.Errorf("%s: %v", name[1], err)
		}
	}
}
