package tests

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// The pages name tests that exist.
func TestRunbookNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	for name, least := range map[string]int{"operations.md": 7, "odoo.md": 20} {
		page, err := os.ReadFile("../docs/" + name)
		must(t, err)
		names := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1)
		if len(names) < least {
			t.Errorf("%s: %d tests are named", name, len(names))
		}
		for _, test := range names {
			if err := exec.Command("grep", "-rqw", "--include=*_test.go", "func "+string(test[1]), "..").Run(); err != nil {
				t.Errorf("%s: %s: %v", name, test[1], err)
			}
		}
	}
}
