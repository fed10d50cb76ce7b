package bug

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build builds the program with the bug of that name planted and returns its path, in a
// folder that is removed with the test.
func Build(t testing.TB, name string) (program string) {
	t.Helper()
	b, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return b.Build(t)
}

// Build is the function Build for a bug at hand. There is no race detector in what it
// builds: a bug must be found by what it does.
func (b Bug) Build(t testing.TB) (program string) {
	t.Helper()
	folder := t.TempDir()
	program = filepath.Join(folder, "postbus")
	if err := b.compile(t.Context(), folder, "-o", program, "./cmd/postbus"); err != nil {
		t.Fatal(err)
	}
	b.wantEmbedded(t, program)
	return program
}

// wantEmbedded checks that the overlay has reached the files that the program embeds.
func (b Bug) wantEmbedded(t testing.TB, program string) {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := b.Files(root)
	if err != nil {
		t.Fatal(err)
	}
	built, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if filepath.Ext(name) == ".sql" && !bytes.Contains(built, []byte(text)) {
			t.Fatalf("the bug %s: the program embeds %s without the edit", b.Name, name)
		}
	}
}

// compile runs go build with args at the module's root, the edits laid over it. folder is
// for the edited files.
func (b Bug) compile(ctx context.Context, folder string, args ...string) error {
	said, err := b.Go(ctx, folder, "build", args...)
	if err != nil {
		return fmt.Errorf("the bug %s: %w\n%s", b.Name, err, said)
	}
	return nil
}

// Go runs a command of go with args at the module's root, the edits laid over it, and
// returns what it says. folder is for the edited files.
func (b Bug) Go(ctx context.Context, folder, command string, args ...string) (said string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	overlay, err := b.overlay(root, folder)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{command, "-overlay", overlay}, args...)...)
	cmd.Dir = root
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go %s %v: %w", command, args, err)
	}
	return string(text), err
}

// overlay writes the edited files into folder and returns the path of what go's flag
// -overlay wants to know of them.
func (b Bug) overlay(root, folder string) (string, error) {
	files, err := b.Files(root)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string, len(files))
	for name, text := range files {
		edited := filepath.Join(folder, fmt.Sprintf("%d_%s", len(replace), filepath.Base(name)))
		if err := os.WriteFile(edited, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, name)] = edited
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// Files returns the edited files of the module at root, by their paths in it.
func (b Bug) Files(root string) (map[string]string, error) {
	files := make(map[string]string)
	for _, e := range b.Edits {
		text, edited := files[e.File]
		if !edited {
			source, err := os.ReadFile(filepath.Join(root, e.File))
			if err != nil {
				return nil, fmt.Errorf("the bug %s: %w", b.Name, err)
			}
			text = string(source)
		}
		text, err := e.apply(text)
		if err != nil {
			return nil, fmt.Errorf("the bug %s: %w", b.Name, err)
		}
		files[e.File] = text
	}
	return files, nil
}

// Root returns the module's folder: the nearest above the working folder with a go.mod.
func Root() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		above := filepath.Dir(folder)
		if above == folder {
			return "", errors.New("no go.mod above the working folder")
		}
		folder = above
	}
}
