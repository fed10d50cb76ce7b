package tests

import (
	"cmp"
	"fmt"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded"
)

// A bouncer is a PgBouncer, as a process, before the databases of a server.
type bouncer struct {
	*program
	server *embedded.Server
	config string // its file
	addr   string
}

// bouncerPath is where PgBouncer is. POSTBUS_TEST_PGBOUNCER names another release's.
func bouncerPath(t *testing.T) string {
	t.Helper()
	path := cmp.Or(os.Getenv("POSTBUS_TEST_PGBOUNCER"), "/usr/sbin/pgbouncer") // not on every user's PATH
	needs(t, path)
	return path
}

// bouncerPrepares says whether PgBouncer is of a release (1.21 and later) that can carry prepared statements over.
func bouncerPrepares(t *testing.T) bool {
	t.Helper()
	said, err := exec.Command(bouncerPath(t), "--version").Output()
	must(t, err)
	var major, minor int
	if _, err := fmt.Sscanf(string(said), "PgBouncer %d.%d", &major, &minor); err != nil {
		t.Fatalf("%s: %v", said, err)
	}
	t.Logf("PgBouncer %d.%d", major, minor)
	return major > 1 || minor >= 21
}

// startBouncer starts PgBouncer with its defaults but for lines, which pgbouncer.ini gets.
func startBouncer(t *testing.T, server *embedded.Server, lines ...string) *bouncer {
	t.Helper()
	through, err := neturl.Parse(server.URL())
	must(t, err)
	free := listen(t)
	b := &bouncer{server: server, addr: free.Addr().String()}
	free.Close()
	host, port, _ := strings.Cut(b.addr, ":")
	password, _ := through.User.Password()
	folder := t.TempDir()
	users := filepath.Join(folder, "userlist.txt")
	b.config = filepath.Join(folder, "pgbouncer.ini")
	must(t, os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", through.User.Username(), password), 0o644))
	must(t, os.WriteFile(b.config, fmt.Appendf(nil, `[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
log_connections = 0
log_disconnections = 0
auth_file = %s
%s
`, through.Hostname(), through.Port(), host, port, users, strings.Join(lines, "\n")), 0o644))
	if os.Geteuid() == 0 { // it runs as another user
		must(t, os.Chmod(filepath.Dir(folder), 0o755))
	}
	b.start(t)
	return b
}

// start starts it, as the user that the database's server runs as: neither runs as root.
func (b *bouncer) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(bouncerPath(t), b.config)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		info, err := os.Stat(filepath.Join(b.server.DataDir(), "cluster"))
		must(t, err)
		owner := info.Sys().(*syscall.Stat_t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	b.program = begin(t, cmd)
	b.await(t, &b.Stderr, "log that it is up", func(text string) bool { return strings.Contains(text, "process up") })
}

// restart kills it and starts it again at once: every connection breaks.
func (b *bouncer) restart(t *testing.T) {
	t.Helper()
	must(t, b.Cmd.Process.Kill())
	<-b.Exited
	b.start(t)
}

// through returns the URL by which the database at url is reached through it; application is the same for a pgx that
// prepares nothing, as applications behind a transaction pooler are told to.
func (b *bouncer) through(t *testing.T, url string) (node, application string) {
	t.Helper()
	parsed, err := neturl.Parse(url)
	must(t, err)
	parsed.Host = b.addr
	node = parsed.String()
	return node, node + "&default_query_exec_mode=exec"
}

// servers holds count server processes of the pool at once, by transactions that stay open until cleanup.
func servers(t *testing.T, url string, count int) (conns []*pgx.Conn) {
	t.Helper()
	seen := map[int]bool{}
	for range count {
		conn := sql(t, url)
		do(t, conn, "BEGIN")
		seen[ask[int](t, conn, "SELECT pg_backend_pid()")] = true
		conns = append(conns, conn)
	}
	if len(seen) != count {
		t.Fatalf("%d server processes for %d transactions", len(seen), count)
	}
	return conns
}
