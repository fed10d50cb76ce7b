//go:build unix

// Package pgtest gives tests a real PostgreSQL: one server for each test binary, a fresh
// database for each test, and a server of its own for a test that kills or freezes it.
//
// A package that uses it says so once:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
//
// POSTBUS_TEST_POSTGRES_BIN names the folder of the programs, to test another release.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/postgres/embedded"
)

// limit bounds each operation on a server.
const limit = 2 * time.Minute

// shared is the test binary's server. It is global because the testing package offers
// nothing else that lives from the first test that needs it to the last.
var shared struct {
	running bool // Run is on the stack
	once    sync.Once
	server  *embedded.Server
	err     error
}

// Run runs the tests, ends the shared server, and fails if a goroutine is left after
// that. Its result is for os.Exit.
func Run(m *testing.M) int {
	shared.running = true
	code := m.Run()
	shared.running = false
	if shared.server != nil {
		if err := stop(shared.server); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = max(code, 1)
		}
	}
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return 1
	}
	return 0
}

// Server returns the shared server, which the first call starts. Do not stop, freeze or
// reconfigure it: other tests use it.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	if !shared.running {
		t.Fatal("pgtest: call pgtest.Run from TestMain")
	}
	shared.once.Do(func() {
		shared.server, shared.err = start(context.Background(), nil)
	})
	if shared.err != nil {
		t.Fatal("pgtest:", shared.err)
	}
	return shared.server
}

// Exclusive returns a server for this test only, ended at cleanup if it still runs.
// settings are lines for postgresql.conf; nil for none.
func Exclusive(t testing.TB, settings map[string]string) *embedded.Server {
	t.Helper()
	server, err := start(t.Context(), settings)
	if err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() {
		if err := stop(server); err != nil {
			t.Error("pgtest:", err)
		}
	})
	return server
}

// Backup returns a server for this test only, on a copy of the running server from; see
// embedded.Server.Backup.
func Backup(t testing.TB, from *embedded.Server, kind embedded.BackupKind, settings map[string]string) *embedded.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	folder, err := os.MkdirTemp("", "postbus-") // Stop removes it
	if err != nil {
		t.Fatal("pgtest:", err)
	}
	if err := os.Chmod(folder, 0o711); err != nil { // the server may be another user
		t.Fatal("pgtest:", err)
	}
	if err := from.Backup(ctx, folder, kind); err != nil {
		t.Fatal("pgtest:", err)
	}
	server, err := startIn(ctx, folder, settings)
	if err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() {
		if err := stop(server); err != nil {
			t.Error("pgtest:", err)
		}
	})
	return server
}

// start starts a server that writes without fsync, for speed: what a killed process has
// written is still there, only a machine's crash loses it.
func start(ctx context.Context, settings map[string]string) (*embedded.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return startIn(ctx, "", settings)
}

func startIn(ctx context.Context, folder string, settings map[string]string) (*embedded.Server, error) {
	all := map[string]string{"fsync": "off"}
	maps.Copy(all, settings)
	return embedded.Start(ctx, embedded.Options{
		DataDir:   folder,
		BinDir:    os.Getenv("POSTBUS_TEST_POSTGRES_BIN"),
		Ephemeral: true,
		Settings:  all,
	})
}

func stop(server *embedded.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return server.Stop(ctx)
}

// Database makes an empty database on the shared server and returns its URL. It is
// dropped at cleanup, whoever is still connected.
func Database(t testing.TB) string {
	t.Helper()
	return DatabaseOn(t, Server(t))
}

// DatabaseOn is Database on a server of the test's own. The server must run at cleanup.
func DatabaseOn(t testing.TB, server *embedded.Server) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	if err := execute(t.Context(), server, "CREATE DATABASE "+name); err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() {
		// The test's own context is over by now.
		if err := execute(context.WithoutCancel(t.Context()), server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error("pgtest:", err)
		}
	})
	return server.DatabaseURL(name)
}

func execute(ctx context.Context, server *embedded.Server, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	if closeErr := conn.Close(ctx); err == nil {
		err = closeErr
	}
	return err
}

// Goroutines are the shared server's own, to be overlooked by a test that checks for
// leaks itself: goleak.VerifyNone(t, pgtest.Goroutines()...).
func Goroutines() []goleak.Option {
	const process = "github.com/postbus/postbus/internal/postgres/embedded.(*process)."
	return []goleak.Option{
		goleak.IgnoreAnyFunction(process + "run"),
		goleak.IgnoreAnyFunction(process + "readLog"),
	}
}
