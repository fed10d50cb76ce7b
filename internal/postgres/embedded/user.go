//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is the user that PostgreSQL's programs run as. Its credential is nil when
// that is the user of this process.
type account struct {
	name       string
	credential *syscall.Credential
}

// serverAccount returns the account for a cluster: this process's own unless it is root.
// Root gets the owner of the cluster if there is one already, so that a folder that a
// user has made is continued as that user.
func serverAccount(cluster string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	if info, err := os.Stat(cluster); err == nil {
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
			return account{
				name:       fmt.Sprintf("uid %d", owner.Uid),
				credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid},
			}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{
			name:       name,
			credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		}, nil
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

// own hands path to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Chown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// canEnter reports, as an error that names the folder, that the account may not pass
// through folder or one above it. Without it PostgreSQL would say only "permission
// denied", of a path that looks right.
func (a account) canEnter(folder string) error {
	if a.credential == nil {
		return nil
	}
	if above := filepath.Dir(folder); above != folder {
		if err := a.canEnter(above); err != nil {
			return err
		}
	}
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	enter := mode&0o001 != 0
	switch {
	case owner.Uid == a.credential.Uid:
		enter = mode&0o100 != 0
	case owner.Gid == a.credential.Gid:
		enter = mode&0o010 != 0
	}
	if !enter {
		return fmt.Errorf("as root PostgreSQL runs as %s, who cannot enter %s (mode %#o): "+
			"choose a folder elsewhere, such as %s, or chmod o+x %s", a.name, folder, mode, rootDataDir, folder)
	}
	return nil
}

// makeFolder makes folder and those missing above it. Made by root, all of them can be
// entered by others, whatever the umask, for the server is another user; what is in them
// has narrow modes of its own.
func makeFolder(folder string) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	if above := filepath.Dir(folder); above != folder {
		if err := makeFolder(above); err != nil {
			return err
		}
	}
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if err := os.Mkdir(folder, mode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chmod(folder, mode)
}
