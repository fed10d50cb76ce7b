//go:build unix

package embedded

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// unpackLimit bounds what an archive may unpack to; the largest one known has 90 MB.
const unpackLimit = 1 << 30

// unpackFile unpacks the files of a npm archive (.tgz) into folder, without the
// archive's outermost folder.
func unpackFile(archive, folder string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	return unpack(file, folder)
}

// unpack writes only regular files, and through an os.Root, so that no name and no link
// in the archive leads out of folder.
func unpack(archive io.Reader, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	plain, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	left := int64(unpackLimit)
	for entries := tar.NewReader(plain); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, nested := strings.Cut(path.Clean(entry.Name), "/")
		if entry.Typeflag != tar.TypeReg {
			continue
		}
		if !nested || !filepath.IsLocal(entry.Name) || !filepath.IsLocal(name) {
			return fmt.Errorf("%q leads outside the archive's folder", entry.Name)
		}
		if left -= entry.Size; left < 0 {
			return fmt.Errorf("more than %d bytes", unpackLimit)
		}
		if err := writeFile(root, name, entries, entry.FileInfo().Mode().Perm()); err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, contents io.Reader, mode os.FileMode) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644|mode&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, contents)
	return errors.Join(err, file.Close())
}
