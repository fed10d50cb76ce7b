//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A BackupKind is what a Backup becomes when it is started.
type BackupKind int

const (
	// Copy is the cluster as it was at the end of the backup, on the same timeline: what
	// a file-level copy is.
	Copy BackupKind = iota
	// Standby follows this server by streaming, asynchronously, and answers reads, until
	// it is promoted (TestStandbyFollowsUntilItIsPromoted).
	Standby
)

// Backup copies the cluster of the running server with pg_basebackup into folder, which is
// made if missing and has no cluster yet; Start with that DataDir runs it.
func (s *Server) Backup(ctx context.Context, folder string, kind BackupKind) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := makeFolder(folder); err != nil {
		return err
	}
	cluster := filepath.Join(folder, "cluster")
	if err := os.Mkdir(cluster, 0o700); err != nil {
		return err
	}
	if err := s.account.own(cluster); err != nil {
		return err
	}
	args := []string{"--dbname", s.URL(), "--pgdata", cluster, "--wal-method", "stream", "--checkpoint", "fast", "--no-sync"}
	if kind == Standby {
		args = append(args, "--write-recovery-conf")
	}
	if _, err := runProgram(ctx, s.program(ctx, "pg_basebackup", args...)); err != nil {
		return errors.Join(fmt.Errorf("back up %s: %w", s.options.DataDir, err), os.RemoveAll(cluster))
	}
	return os.WriteFile(filepath.Join(folder, "password"), []byte(s.password+"\n"), 0o600)
}
