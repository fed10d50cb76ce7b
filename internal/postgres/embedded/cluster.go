//go:build unix

package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The names in the URL.
const (
	superuser = "postgres"
	database  = "postbus"
)

// settingsFile is in the cluster, included by postgresql.conf and written anew by each
// start. ALTER SYSTEM, which PostgreSQL reads later, wins over it.
const settingsFile = "postbus.conf"

// program prepares one of PostgreSQL's programs, to run as the cluster's account.
func (s *Server) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.binaries.folder, name), args...)
	cmd.Env = environment(s.binaries)
	cmd.Dir = "/" // where every account may be
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account.credential}
	return cmd
}

// clusterMajor returns the release that the cluster is of; 0 if there is none.
func clusterMajor(folder, cluster string) (int, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(folder, "PG_VERSION")); err == nil {
			return 0, fmt.Errorf("%s is another PostgreSQL's data directory: choose another folder", folder)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION: %q is no PostgreSQL release", cluster, text)
	}
	return major, nil
}

// checkMajor says what to do about data of another release.
func (s *Server) checkMajor(major int) error {
	if major == 0 || major == s.binaries.major {
		return nil
	}
	return fmt.Errorf("the data in %s are PostgreSQL %d's, the programs in %s are %s: "+
		"install PostgreSQL %d, name its folder with --postgres-bin, or move the data away to begin with none",
		s.options.DataDir, major, s.binaries.folder, s.binaries.version, major)
}

// makeCluster makes the cluster under another name and renames it when it is whole, the
// database in it.
func (s *Server) makeCluster(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	leftovers, err := filepath.Glob(filepath.Join(s.options.DataDir, "init-*"))
	if err != nil {
		return err
	}
	for _, each := range leftovers {
		if err := os.RemoveAll(each); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp(s.options.DataDir, "init-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	password := rand.Text()
	passwordFile := filepath.Join(work, "password") // initdb reads it as the account
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	if err := errors.Join(s.account.own(passwordFile), s.account.own(work)); err != nil {
		return err
	}
	made := filepath.Join(work, "cluster")
	if err := s.initdb(ctx, made, passwordFile); err != nil {
		return err
	}
	if err := s.makeDatabase(ctx, made); err != nil {
		return err
	}
	if err := os.WriteFile(s.passwordFile(), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(made, s.cluster)
}

// initdb sorts by code point, the same everywhere, and where the system knows C.UTF-8
// still tells letters from others.
func (s *Server) initdb(ctx context.Context, made, passwordFile string) error {
	var err error
	for _, locale := range []string{"C.UTF-8", "C"} {
		args := []string{
			"--pgdata", made, "--username", superuser, "--pwfile", passwordFile,
			"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", locale, "--lc-messages", "C",
		}
		if s.options.Ephemeral {
			args = append(args, "--no-sync")
		}
		if _, err = runProgram(ctx, s.program(ctx, "initdb", args...)); err == nil {
			break
		}
		if ctx.Err() != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(made, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conf, "\ninclude_if_exists '%s'\n", settingsFile)
	return errors.Join(err, conf.Close())
}

// makeDatabase uses PostgreSQL's single-user mode, which needs no client.
func (s *Server) makeDatabase(ctx context.Context, made string) error {
	cmd := s.program(ctx, "postgres", "--single", "-D", made, "-c", "exit_on_error=on", "postgres")
	cmd.Stdin = strings.NewReader("CREATE DATABASE " + database + "\n")
	if _, err := runProgram(ctx, cmd); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$`)

// checkSettings refuses what would break the settings file's lines.
func checkSettings(settings map[string]string) error {
	for name, value := range settings {
		if !settingName.MatchString(name) {
			return fmt.Errorf("options.Settings: %q is no name of a setting", name)
		}
		if strings.ContainsAny(value, "\n\r\x00") {
			return fmt.Errorf("options.Settings[%q]: a value of more than one line", name)
		}
	}
	return nil
}

// writeSettings writes the settings of a private server. Options.Settings win.
func (s *Server) writeSettings() error {
	settings := map[string]string{
		"listen_addresses":          "127.0.0.1",
		"unix_socket_directories":   "",
		"max_connections":           "200",
		"max_prepared_transactions": "20",
		"shared_buffers":            "128MB",
		"fsync":                     "on",
		"synchronous_commit":        "on",
		"timezone":                  "GMT", // see environment
		"log_timezone":              "GMT",
		"logging_collector":         "off",
		"log_destination":           "stderr",
		"jit":                       "off", // no statement is long enough, and downloads come without LLVM
	}
	maps.Copy(settings, s.options.Settings)
	settings["port"] = strconv.Itoa(s.port) // the URL's
	var text strings.Builder
	text.WriteString("# Written by each start; change settings with ALTER SYSTEM.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := strings.ReplaceAll(strings.ReplaceAll(settings[name], `\`, `\\`), "'", "''")
		fmt.Fprintf(&text, "%s = '%s'\n", name, value)
	}
	path := filepath.Join(s.cluster, settingsFile)
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return err
	}
	return s.account.own(path)
}

func (s *Server) passwordFile() string { return filepath.Join(s.options.DataDir, "password") }

func (s *Server) readPassword() (string, error) {
	text, err := os.ReadFile(s.passwordFile())
	if err != nil {
		return "", fmt.Errorf("the password of the data in %s: %w", s.options.DataDir, err)
	}
	return strings.TrimSpace(string(text)), nil
}
