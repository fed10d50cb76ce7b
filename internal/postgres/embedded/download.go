//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A road is one way to get PostgreSQL's programs. fetch puts them into folder, which is
// empty, and returns an error if this road does not lead there.
type road struct {
	name  string
	fetch func(f *finder, ctx context.Context, folder string) error
}

// downloadRoads are tried in this order. Each leaves it to a package manager that the
// machine has to know where from, and to check what comes.
func downloadRoads() []road {
	return []road{{"apt", (*finder).fetchApt}, {"npm", (*finder).fetchNpm}}
}

// cachedFolders are where the roads' packages have the programs, inside the cache.
var cachedFolders = []string{
	"postgresql-*/usr/lib/postgresql/*/bin", // Debian's packages
	"postgresql-*/native/bin",               // npm's
}

// cached lists what was downloaded before.
func (f *finder) cached(ctx context.Context) []binaries {
	var found []binaries
	for _, pattern := range cachedFolders {
		folders, _ := filepath.Glob(filepath.Join(f.cache, pattern))
		for _, folder := range folders {
			each, err := inspect(ctx, folder, libraryPath(folder))
			if err != nil {
				continue
			}
			each.downloaded = true
			found = append(found, each)
		}
	}
	return found
}

// libraryPath returns the folders of the libraries that came along with the programs in
// folder. PostgreSQL finds its other files by the place of its programs.
func libraryPath(folder string) string {
	up := func(n int) string { return filepath.Join(folder, strings.Repeat("../", n)) }
	var paths []string
	for _, pattern := range []string{
		filepath.Join(up(4), "lib/*-linux-gnu*"), // usr/lib/TRIPLET
		filepath.Join(up(5), "lib/*-linux-gnu*"), // lib/TRIPLET
		filepath.Join(up(1), "lib/libpq.*"),      // native/lib
	} {
		matches, _ := filepath.Glob(pattern)
		if strings.HasSuffix(pattern, "libpq.*") && len(matches) > 0 {
			matches = []string{filepath.Dir(matches[0])}
		}
		paths = append(paths, matches...)
	}
	return strings.Join(paths, string(filepath.ListSeparator))
}

// download gets the programs by the first road that leads there. They appear in the
// cache by one rename, complete and seen to run.
func (f *finder) download(ctx context.Context) (binaries, error) {
	tried := make([]string, 0, len(f.roads))
	for _, each := range f.roads {
		started := time.Now()
		found, err := f.take(ctx, each)
		if err == nil {
			f.logger.InfoContext(ctx, "downloaded PostgreSQL", "by", each.name, "version", found.version,
				"folder", found.folder, "took", time.Since(started))
			return found, nil
		}
		if ctx.Err() != nil {
			return binaries{}, fmt.Errorf("download PostgreSQL: %w", ctx.Err())
		}
		tried = append(tried, each.name+": "+err.Error())
	}
	return binaries{}, fmt.Errorf("no PostgreSQL was found, and none could be downloaded (%s): "+
		"install PostgreSQL %d or later (Debian: apt-get install postgresql) or name its folder with --postgres-bin",
		strings.Join(tried, "; "), oldestMajor)
}

func (f *finder) take(ctx context.Context, by road) (binaries, error) {
	if err := makeFolder(f.cache); err != nil {
		return binaries{}, err
	}
	work, err := os.MkdirTemp(f.cache, "download-")
	if err != nil {
		return binaries{}, err
	}
	defer os.RemoveAll(work)
	if os.Geteuid() == 0 { // the server, another user, reads it
		if err := os.Chmod(work, 0o755); err != nil {
			return binaries{}, err
		}
	}
	fetched := filepath.Join(work, "fetched")
	if err := os.Mkdir(fetched, 0o755); err != nil {
		return binaries{}, err
	}
	if err := by.fetch(f, ctx, fetched); err != nil {
		return binaries{}, err
	}
	if err := openToAll(fetched); err != nil {
		return binaries{}, err
	}
	got, err := f.fetched(ctx, work)
	if err != nil {
		return binaries{}, err
	}
	kept := filepath.Join(f.cache, "postgresql-"+got.version+"-"+by.name)
	// Where another process was faster, its copy is as good.
	if err := os.Rename(fetched, kept); err != nil && !errors.Is(err, os.ErrExist) {
		return binaries{}, err
	}
	within, err := filepath.Rel(fetched, got.folder)
	if err != nil {
		return binaries{}, err
	}
	folder := filepath.Join(kept, within)
	found, err := inspect(ctx, folder, libraryPath(folder))
	found.downloaded = true
	return found, err
}

// openToAll lets everyone read what root has unpacked, whatever the umask: the server is
// another user.
func openToAll(folder string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

// fetched inspects what a road has put into work/fetched.
func (f *finder) fetched(ctx context.Context, work string) (binaries, error) {
	for _, pattern := range cachedFolders {
		_, within, _ := strings.Cut(pattern, "/")
		folders, _ := filepath.Glob(filepath.Join(work, "fetched", within))
		if len(folders) > 0 {
			folder := folders[len(folders)-1]
			return inspect(ctx, folder, libraryPath(folder))
		}
	}
	return binaries{}, errors.New("the packages hold no PostgreSQL server")
}

// command runs a package manager's command in folder, within limit, and returns what it
// printed.
func (f *finder) command(ctx context.Context, limit time.Duration, folder, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not done within %s", limit)
		}
		return "", fmt.Errorf("%s %s: %w%s", name, args[0], err, said([]byte(stderr.String())))
	}
	return string(out), nil
}
