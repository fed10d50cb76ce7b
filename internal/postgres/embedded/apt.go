//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fetchApt unpacks Debian's or Ubuntu's packages without installing them, which needs no
// root. apt checks their signatures. If the machine's package lists are missing or too
// old, it is tried again with lists of its own; the machine's are never touched.
func (f *finder) fetchApt(ctx context.Context, folder string) error {
	work := filepath.Join(filepath.Dir(folder), "apt")
	err := f.aptPackages(ctx, folder, filepath.Join(work, "packages"), f.aptOptions)
	if err == nil || errors.Is(err, errAptUseless) {
		return err
	}
	state := filepath.Join(work, "state")
	for _, each := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(state, each), 0o755); err != nil {
			return err
		}
	}
	own := append([]string{
		"-o", "Dir::State::Lists=" + filepath.Join(state, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(state, "cache"),
	}, f.aptOptions...)
	if _, updateErr := f.command(ctx, 3*time.Minute, "/", "apt-get", append([]string{"update"}, own...)...); updateErr != nil {
		return fmt.Errorf("%w; then with new package lists: %w", err, updateErr)
	}
	return f.aptPackages(ctx, folder, filepath.Join(work, "again"), own)
}

// errAptUseless is what new package lists do not cure.
var errAptUseless = errors.New("apt does not help")

// aptPackages downloads into work what the machine lacks for a server, and unpacks it
// into folder.
func (f *finder) aptPackages(ctx context.Context, folder, work string, options []string) error {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	plan, err := f.command(ctx, time.Minute, work, "apt-get",
		append([]string{"install", "postgresql", "--simulate", "--no-install-recommends"}, options...)...)
	if err != nil {
		return err
	}
	packages, err := serverPackages(plan)
	if err != nil {
		return err
	}
	if _, err := f.command(ctx, 10*time.Minute, work, "apt-get", slices.Concat([]string{"download"}, options, packages)...); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	if len(archives) != len(packages) {
		return fmt.Errorf("apt-get download: %d files for %d packages", len(archives), len(packages))
	}
	for _, archive := range archives {
		if _, err := f.command(ctx, 2*time.Minute, work, "dpkg-deb", "--extract", archive, folder); err != nil {
			return err
		}
	}
	return nil
}

var (
	aptInstalls   = regexp.MustCompile(`(?m)^Inst (\S+) (?:\[\S+\] )?\((\S+) `)
	serverPackage = regexp.MustCompile(`^postgresql-(?:client-)?(\d+)$`)
	// What no server here needs: LLVM serves JIT, which is off, and a C library of another
	// version than the machine's loader breaks every program.
	needless = regexp.MustCompile(`^lib(?:llvm|z3-|c6$|c-|.*-perl$|perl)`)
)

// serverPackages picks from apt's plan the packages that the server needs, each as
// name=version: the server itself and the libraries that the machine lacks.
func serverPackages(plan string) ([]string, error) {
	var packages []string
	server := false
	for _, each := range aptInstalls.FindAllStringSubmatch(plan, -1) {
		name, version := each[1], each[2]
		parts := serverPackage.FindStringSubmatch(name)
		if parts == nil && (!strings.HasPrefix(name, "lib") || needless.MatchString(name)) {
			continue
		}
		if parts != nil {
			if major, err := strconv.Atoi(parts[1]); err != nil || major < oldestMajor {
				return nil, fmt.Errorf("%w: its PostgreSQL is %s, at least %d", errAptUseless, parts[1], oldestMajor)
			}
			server = server || !strings.Contains(name, "client")
		}
		packages = append(packages, name+"="+version)
	}
	if !server {
		return nil, fmt.Errorf("%w: it holds PostgreSQL for installed already", errAptUseless)
	}
	return packages, nil
}
