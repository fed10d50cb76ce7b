//go:build unix

package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldestMajor is the first release that the service runs on.
const oldestMajor = 14

// installFolders are where distributions put PostgreSQL's programs.
var installFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/lib/postgresql*/bin",
	"/usr/libexec/postgresql*",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/usr/local/pgsql/bin",
}

// binaries are one installation of PostgreSQL's programs.
type binaries struct {
	folder     string
	version    string // as the program says it: "15.18"
	major      int
	libraries  string // LD_LIBRARY_PATH; "" for the system's own
	downloaded bool
}

// A finder looks for PostgreSQL's programs and downloads them when there are none.
type finder struct {
	onPath     bool     // ask PATH, too
	folders    []string // patterns
	cache      string
	logger     *slog.Logger
	aptOptions []string // more options for apt-get; tests pretend that nothing is installed
	roads      []road
}

// find returns the binaries of folder if one is named. Else it prefers those of release
// major (0: any), because only they can open a cluster of that release; then PATH's; then
// the newest.
func (f *finder) find(ctx context.Context, folder string, major int) (binaries, error) {
	if folder != "" {
		folder, err := filepath.Abs(folder)
		if err != nil {
			return binaries{}, err
		}
		found, err := inspect(ctx, folder, "")
		if err != nil {
			return binaries{}, fmt.Errorf("the folder of PostgreSQL's programs: %w", err)
		}
		return found, nil
	}
	installed := f.installed(ctx)
	for _, each := range installed {
		if each.major == major {
			return each, nil
		}
	}
	if len(installed) > 0 {
		return installed[0], nil
	}
	return f.download(ctx)
}

// installed lists what is there, in the order of preference: PATH's, the distributions'
// newest first, what was downloaded before.
func (f *finder) installed(ctx context.Context) []binaries {
	var found []binaries
	known := func(folder string) bool {
		return slices.ContainsFunc(found, func(b binaries) bool { return b.folder == folder })
	}
	if f.onPath {
		for _, folder := range pathFolders(ctx) {
			if each, err := inspect(ctx, folder, ""); err == nil && !known(each.folder) {
				found = append(found, each)
			}
		}
	}
	var usual []binaries
	for _, pattern := range f.folders {
		folders, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		for _, folder := range folders {
			if each, err := inspect(ctx, folder, ""); err == nil && !known(each.folder) {
				usual = append(usual, each)
			}
		}
	}
	return slices.Concat(found, newestFirst(usual), newestFirst(f.cached(ctx)))
}

func newestFirst(found []binaries) []binaries {
	slices.SortStableFunc(found, func(a, b binaries) int { return b.major - a.major })
	return found
}

// pathFolders asks PATH for the programs themselves and for pg_config, which on Debian
// is the only one there.
func pathFolders(ctx context.Context) []string {
	var folders []string
	if program, err := exec.LookPath("postgres"); err == nil {
		if program, err = filepath.EvalSymlinks(program); err == nil {
			folders = append(folders, filepath.Dir(program))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	return folders
}

var versionText = regexp.MustCompile(`PostgreSQL\) (\d+)(\S*)`)

// inspect returns the binaries in folder: all the programs that this package runs must
// be there, start, and be new enough.
func inspect(ctx context.Context, folder, libraries string) (binaries, error) {
	for _, program := range []string{"postgres", "initdb", "pg_ctl"} {
		if _, err := exec.LookPath(filepath.Join(folder, program)); err != nil {
			return binaries{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(folder, "postgres"), "--version")
	cmd.Env = environment(binaries{libraries: libraries})
	out, err := cmd.CombinedOutput()
	if err != nil {
		return binaries{}, fmt.Errorf("%s/postgres --version: %w%s", folder, err, said(out))
	}
	parts := versionText.FindSubmatch(out)
	if parts == nil {
		return binaries{}, fmt.Errorf("%s/postgres --version%s", folder, said(out))
	}
	major, err := strconv.Atoi(string(parts[1]))
	if err != nil || major < oldestMajor {
		return binaries{}, fmt.Errorf("%s: PostgreSQL %s, at least %d", folder, parts[1], oldestMajor)
	}
	return binaries{
		folder:    folder,
		version:   string(parts[1]) + string(parts[2]),
		major:     major,
		libraries: libraries,
	}, nil
}

// environment is what PostgreSQL's programs see: nothing of the user's PG* variables or
// locale. GMT is UTC by the one name that PostgreSQL knows without any zone files.
func environment(b binaries) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=GMT"}
	if b.libraries != "" {
		env = append(env, "LD_LIBRARY_PATH="+b.libraries)
	}
	return env
}

// said shortens a program's output to what an error has room for: its last lines.
func said(out []byte) string {
	text := strings.TrimSpace(string(out))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-3):]
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	text = strings.Join(lines, " | ")
	const limit = 500
	if len(text) > limit {
		text = "…" + text[len(text)-limit:]
	}
	return ": " + text
}
