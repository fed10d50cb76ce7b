package bug

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// Every edit finds its text exactly once: the product has not moved away under the list.
func TestEveryBugStillApplies(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append(All(), Deaf()) {
		files, err := b.Files(root)
		if err != nil {
			t.Error(err)
		}
		for name, text := range files {
			if read(t, filepath.Join(root, name)) == text {
				t.Errorf("the bug %s leaves %s as it is", b.Name, name)
			}
		}
	}
}

// What an edit says of a text that is not there once.
func TestEditOfTextThatIsNotThereOnceIsRefused(t *testing.T) {
	e := Edit{File: "a.go", Old: "x", New: "y"}
	for text, times := range map[string]string{"abc": "0 times", "axbxc": "2 times"} {
		if _, err := e.apply(text); err == nil || !strings.Contains(err.Error(), times) {
			t.Errorf("%q: %v, want an error that says %s", text, err, times)
		}
	}
	if got, err := e.apply("axc"); err != nil || got != "ayc" {
		t.Errorf("got %q, %v, want ayc", got, err)
	}
}

// Every bug says all that the documentation shows of it, and where it must be found.
func TestEveryBugIsDescribed(t *testing.T) {
	name, promise := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`), regexp.MustCompile(`^G([1-9]|10)$`)
	seen := map[string]bool{}
	for _, b := range All() {
		switch {
		case !name.MatchString(b.Name) || seen[b.Name]:
			t.Errorf("the name %q is not words joined by hyphens, or is another's", b.Name)
		case (len(b.Scenarios) > 0) == (b.Test != ""):
			t.Errorf("the bug %s must name scenarios or a test, one of the two", b.Name)
		case !promise.MatchString(b.Promise) || b.Mistake == "" || b.Seen == "" || len(b.Edits) == 0:
			t.Errorf("the bug %s says too little", b.Name)
		}
		seen[b.Name] = true
	}
}

// Every bug is one that compiles: the packages that it edits do.
func TestEveryBugCompiles(t *testing.T) {
	t.Parallel()
	for _, b := range append(All(), Deaf()) {
		args := []string{}
		for _, e := range b.Edits {
			if strings.HasSuffix(e.File, ".go") {
				args = append(args, "./"+path.Dir(e.File))
			}
		}
		if len(args) == 0 {
			continue
		}
		if err := b.compile(t.Context(), t.TempDir(), args...); err != nil {
			t.Error(err)
		}
	}
}

// everyFunction calls what the bugs in the schema are in: PostgreSQL looks at a function's
// names only when it is called.
const everyFunction = `
SELECT postbus.send('c', '1');
SELECT postbus.send('c', '1', key => 'sql');
SELECT postbus.append('{0}', '{c}', '{t}', '{1}', ARRAY[NULL::bytea], '{""}', '{0}', NULL);
SELECT postbus.append('{0}', '{c}', '{t}', '{1}', ARRAY[NULL::bytea], '{""}', '{0}', '{node}');
SELECT postbus.poll('{c}', 0)`

// Every bug in the schema is one that PostgreSQL takes, and that runs.
func TestEveryBugInTheSchemaIsAccepted(t *testing.T) {
	t.Parallel()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	migrations, err := fs.Glob(os.DirFS(root), "db/migrations/*.sql")
	if err != nil || len(migrations) == 0 {
		t.Fatalf("the migrations: %d, %v", len(migrations), err)
	}
	for _, b := range All() {
		files, err := b.Files(root)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(migrations, func(name string) bool { return files[name] != "" }) {
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			for _, name := range migrations {
				text, edited := files[name]
				if !edited {
					text = read(t, filepath.Join(root, name))
				}
				if _, err := conn.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if _, err := conn.PgConn().Exec(t.Context(), everyFunction).ReadAll(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs/guarantees.md lists every bug, in the order of All, with its promise, and no other.
func TestGuaranteesListEveryBug(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(read(t, filepath.Join(root, "docs/guarantees.md")), "\n"+TableHead)
	if !found {
		t.Fatal("docs/guarantees.md has no table of the planted bugs")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var listed, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (G[0-9]+) \\|").FindAllStringSubmatch(table, -1) {
		listed = append(listed, row[1]+" "+row[2])
	}
	for _, b := range All() {
		want = append(want, b.Name+" "+b.Promise)
	}
	if !slices.Equal(listed, want) {
		t.Errorf("docs/guarantees.md lists\n%q, want\n%q", listed, want)
	}
}
