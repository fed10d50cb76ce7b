//go:build unix

package embedded

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// rootDataDir is where root's data are: below a folder that PostgreSQL's user can enter.
const rootDataDir = "/var/lib/postbus/dev"

// DefaultDataDir returns the data folder for a server that stays: .postbus in the working
// directory or, as root, /var/lib/postbus/dev.
func DefaultDataDir() string {
	if os.Geteuid() == 0 {
		return rootDataDir
	}
	return ".postbus"
}

// Options say what to run. The zero value is a server whose data stay in DefaultDataDir.
type Options struct {
	// DataDir is the data folder, made if missing. "": DefaultDataDir or, when Ephemeral,
	// a new folder for temporary files.
	DataDir string
	// BinDir has postgres, initdb and pg_ctl. "": look for them, else download.
	BinDir string
	// CacheDir takes downloads. "": postbus in the user's cache folder or, as root,
	// /var/cache/postbus; for a user without a home, cache in DataDir.
	CacheDir string
	// Port is the TCP port on 127.0.0.1. 0: any free one.
	Port int
	// Ephemeral removes DataDir at Stop, all that is in it.
	Ephemeral bool
	// Settings are more lines for postgresql.conf; they win over this package's own.
	Settings map[string]string
	// Log gets the server's log. nil: server.log in DataDir.
	Log io.Writer
	// Logger gets what this package has to say. nil: nothing.
	Logger *slog.Logger
}

// withDefaults fills in what was left out and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Port < 0 || o.Port > 65535 {
		return o, fmt.Errorf("options.Port: %d, 0 to 65535", o.Port)
	}
	if err := checkSettings(o.Settings); err != nil {
		return o, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.DataDir == "" && o.Ephemeral:
		folder, err := os.MkdirTemp("", "postbus-")
		if err != nil {
			return o, err
		}
		o.DataDir = folder
		if os.Geteuid() == 0 { // the server, another user, must get in
			if err := os.Chmod(folder, 0o711); err != nil {
				return o, err
			}
		}
	case o.DataDir == "":
		o.DataDir = DefaultDataDir()
	}
	if o.CacheDir == "" {
		o.CacheDir = defaultCacheDir(o.DataDir)
	}
	var err error
	o.CacheDir, err = filepath.Abs(o.CacheDir) // the programs run in another folder
	return o, err
}

// defaultCacheDir is in the data folder for a user without a home, such as a service's.
func defaultCacheDir(dataDir string) string {
	if os.Geteuid() == 0 {
		return "/var/cache/postbus"
	}
	folder, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(dataDir, "cache")
	}
	return filepath.Join(folder, "postbus")
}
