//go:build unix

package embedded

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDataSurviveARestart(t *testing.T) {
	folder := filepath.Join(newFolder(t), "made", "by start")
	server := startIn(t, folder)
	mustAsk(t, server.URL(), "CREATE TABLE kept AS SELECT 'here'::text AS word")
	pids := family(t, server.PID())
	stop(t, server)
	awaitGone(t, pids)

	server = startIn(t, folder)
	if got := mustAsk(t, server.URL(), "SELECT word FROM kept"); got != "here" {
		t.Errorf("after a restart the table holds %q", got)
	}
	if got := mustAsk(t, server.URL(), "SHOW server_version"); !strings.HasPrefix(got, server.Version()) {
		t.Errorf("Version is %s, the server says %s", server.Version(), got)
	}
}

func TestSettingsOfAPrivateServer(t *testing.T) {
	server, err := begin(t.Context(), Options{
		Ephemeral: true,
		Settings:  map[string]string{"fsync": "off", "app.motto": `it's a \ test`, "max_connections": "50"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "50",
		"max_prepared_transactions": "20", "synchronous_commit": "on", "server_encoding": "UTF8",
		"TimeZone": "GMT", "fsync": "off", "app.motto": `it's a \ test`,
	} {
		if got := mustAsk(t, server.URL(), "SHOW "+name); got != want {
			t.Errorf("%s is %q, wanted %q", name, got, want)
		}
	}
	stop(t, server)
	if _, err := os.Stat(server.DataDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an ephemeral server's folder after Stop: %v", err)
	}
}

func TestOnlyThePasswordLetsIn(t *testing.T) {
	server := startIn(t, newFolder(t))
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(superuser, "guess")
	if _, err := ask(t.Context(), address.String(), "SELECT 'in'"); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("with a wrong password: %v", err)
	}
	for _, name := range []string{"password", "server.log", "lock"} {
		info, err := os.Stat(filepath.Join(server.DataDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %#o", name, info.Mode().Perm())
		}
	}
}

func TestSecondStarterIsRefused(t *testing.T) {
	folder := newFolder(t)
	server := startIn(t, folder)
	second, err := begin(t.Context(), Options{DataDir: folder})
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("a second Start: %v, %v", second, err)
	}
	if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), folder) {
		t.Errorf("the error is not one line that names the folder: %q", err)
	}
	mustAsk(t, server.URL(), "SELECT 'still there'")
}

func TestFrozenServerAnswersAfterThaw(t *testing.T) {
	server := startIn(t, newFolder(t))
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if got, err := ask(ctx, server.URL(), "SELECT 'awake'"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server answered %q, %v", got, err)
	}
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, server.URL(), "SELECT 'awake'")
}

func TestFrozenServerStops(t *testing.T) {
	server := startIn(t, newFolder(t))
	pids := family(t, server.PID())
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop(t, server)
	awaitGone(t, pids)
	if took := time.Since(began); took > endFast.patience {
		t.Errorf("Stop of a frozen server took %s", took)
	}
}

func TestDoneTellsOfADeathOnly(t *testing.T) {
	server := startIn(t, newFolder(t))
	url, asked := server.URL(), server.Done()
	mustAsk(t, url, "CREATE TABLE kept AS SELECT 'here'::text AS word")
	if err := server.StopImmediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
		t.Error("Done was closed by a stop that was asked for")
	default:
	}

	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done is open 10 s after the server's death")
	}
	if err := server.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err after a kill: %v", err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.URL() != url {
		t.Errorf("URL changed from %s to %s", url, server.URL())
	}
	if got := mustAsk(t, url, "SELECT word FROM kept"); got != "here" {
		t.Errorf("after two crashes the table holds %q", got)
	}
}

func TestInterruptedStartLeavesNothing(t *testing.T) {
	temporary := newFolder(t)
	t.Setenv("TMPDIR", temporary)
	for _, after := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		server, err := begin(ctx, Options{Ephemeral: true})
		cancel()
		if err == nil {
			stop(t, server) // a fast machine
		}
		left, err := os.ReadDir(temporary)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("a start that was ended after %s left %v", after, left)
		}
	}
}

// A stopper ends a context when it is first written to.
type stopper struct{ stop context.CancelFunc }

func (s stopper) Write(text []byte) (int, error) { s.stop(); return len(text), nil }

// TestStartInterruptedAsTheServerComesUp: the log's first line is when the postmaster
// runs and is not ready yet.
func TestStartInterruptedAsTheServerComesUp(t *testing.T) {
	folder := newFolder(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := begin(ctx, Options{DataDir: folder, Log: stopper{cancel}}); !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted start: %v", err)
	}
	if file, err := readPidFile(filepath.Join(folder, "cluster")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a server is left: %v, %v", file, err)
	}
	mustAsk(t, startIn(t, folder).URL(), "SELECT 'started'")
	if left, err := filepath.Glob(filepath.Join(folder, "init-*")); err != nil || len(left) > 0 {
		t.Errorf("making the cluster left %v, %v", left, err)
	}
}

func TestDataOfAnotherReleaseAreRefused(t *testing.T) {
	folder := newFolder(t)
	server := startIn(t, folder)
	stop(t, server)
	version := filepath.Join(server.cluster, "PG_VERSION")
	if err := os.WriteFile(version, []byte("13\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := begin(t.Context(), Options{DataDir: folder})
	if err == nil {
		t.Fatal("data of PostgreSQL 13 were opened")
	}
	for _, part := range []string{"PostgreSQL 13", server.Version(), folder, "--postgres-bin"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

func TestForeignDataDirectoryIsRefused(t *testing.T) {
	folder := newFolder(t)
	if err := os.WriteFile(filepath.Join(folder, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := begin(t.Context(), Options{DataDir: folder}); err == nil || !strings.Contains(err.Error(), "another PostgreSQL's") {
		t.Errorf("Start on a foreign data directory: %v", err)
	}
}

func TestOptionsNameTheirFault(t *testing.T) {
	for want, options := range map[string]Options{
		"Port: 65536":                      {Port: 65536},
		`Settings: "fsync = off #"`:        {Settings: map[string]string{"fsync = off #": ""}},
		`Settings["fsync"]: a value of mo`: {Settings: map[string]string{"fsync": "off\nport=1"}},
	} {
		if _, err := options.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
