package tests

import (
	"context"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func oneLine(text string) bool {
	return strings.Count(text, "\n") == 1 && strings.HasSuffix(text, "\n")
}

// nowhere is the URL of a database that nobody serves.
const nowhere = "postgres://postgres:SECRET@127.0.0.1:1/none"

func TestMisuseOfServeIsOneLineAndExitCode2(t *testing.T) {
	serve := func(flags ...string) []string {
		return append([]string{"serve", "--database-url", nowhere}, flags...)
	}
	for _, c := range []struct {
		says     string
		args     []string
		variable string
	}{
		{"unknown flag: --htp-addr", serve("--htp-addr", "x"), ""},
		{"--database-url (or POSTBUS_DATABASE_URL) is required", []string{"serve"}, ""},
		{"--database-url (or POSTBUS_DATABASE_URL) is required", []string{"migrate"}, ""},
		{"--database-url: must be a URL", []string{"serve", "--database-url", "host=localhost"}, ""},
		{"--database-url: must be a URL", []string{"migrate", "--database-url", "app"}, ""},
		{"takes no arguments", serve("x"), ""},
		{`invalid argument "soon" for "--retention"`, serve("--retention", "soon"), ""},
		{"--retention: 0s, must be 1s to", serve("--retention", "0s"), ""},
		{"--poll-timeout: 51s, must be 1s to 50s", serve("--poll-timeout", "51s"), ""},
		{"--max-body: 1, must be 65536 to 3145728", serve("--max-body", "1"), ""},
		{"--max-readers: 0, must be 1 to", serve("--max-readers", "0"), ""},
		{"--pool-size: 3, must be 4 to 1000", serve("--pool-size", "3"), ""},
		{"--odoo-version: 19, must be 13 to 18", serve("--odoo-version", "19"), ""},
		{"--odoo-version: 12, must be 13 to 18", serve(), "POSTBUS_ODOO_VERSION=12"},
		{`--log-level: "loud"`, serve("--log-level", "loud"), ""},
		{`--log-format: "xml"`, serve("--log-format", "xml"), ""},
		{"--http-addr: 0.0.0.0:8072 is not a loopback address; there is no authentication, so say --insecure", serve("--http-addr", "0.0.0.0:8072"), ""},
		{"--grpc-addr: :8073 is not a loopback address", serve("--grpc-addr", ":8073"), ""},
		{"--admin-addr: [::]:8074 is not a loopback address", serve("--admin-addr", "[::]:8074"), ""},
		{`--grpc-addr: "8073" is not HOST:PORT`, serve("--grpc-addr", "8073"), ""},
		{`POSTBUS_RETENTION="soon"`, serve(), "POSTBUS_RETENTION=soon"},
		{`POSTBUS_MAX_READERS="many"`, serve(), "POSTBUS_MAX_READERS=many"},
		{`POSTBUS_INSECURE="perhaps"`, serve(), "POSTBUS_INSECURE=perhaps"},
		{"--http-addr: 0.0.0.0:1 is not a loopback", serve(), "POSTBUS_HTTP_ADDR=0.0.0.0:1"},
		{`POSTBUS_DRAIN_TIMEOUT="1"`, []string{"dev"}, "POSTBUS_DRAIN_TIMEOUT=1"},
	} {
		cmd := command(t, c.args...)
		cmd.Env = append(cmd.Env, c.variable)
		got := run(t, cmd)
		if got.code != 2 || got.stdout != "" || !oneLine(got.stderr) || !strings.HasPrefix(got.stderr, "postbus: ") || !strings.Contains(got.stderr, c.says) {
			t.Errorf("%q %s: %+v, want 2 and one line that says %q", c.args, c.variable, got, c.says)
		}
	}
}

func TestFailureToStartIsOneLineAndExitCode1(t *testing.T) {
	taken := listen(t)
	defer taken.Close()
	other := listen(t)
	free := other.Addr().String()
	other.Close()
	newer := pgtest.Database(t)
	if got := run(t, command(t, "migrate", "--database-url", newer)); got.code != 0 {
		t.Fatalf("migrate: %+v", got)
	}
	do(t, sql(t, newer), "UPDATE postbus.settings SET min_program = 1000")
	latin := latinDatabase(t)
	for name, c := range map[string]struct {
		says string
		args []string
	}{
		"no database":        {"127.0.0.1:1", []string{"serve", "--database-url", nowhere}},
		"no database, move":  {"127.0.0.1:1", []string{"migrate", "--database-url", nowhere}},
		"port in use":        {"--http-addr: listen tcp " + taken.Addr().String(), []string{"serve", "--database-url", pgtest.Database(t), "--http-addr", taken.Addr().String(), "--grpc-addr", free, "--admin-addr", ""}},
		"not UTF8":           {"encoding is LATIN1, must be UTF8", []string{"serve", "--database-url", latin}},
		"not UTF8, move":     {"encoding is LATIN1, must be UTF8", []string{"migrate", "--database-url", latin}},
		"newer schema":       {"needs a program of number 1000 or above, this is 1: install a newer postbus", []string{"serve", "--database-url", newer}},
		"newer schema, move": {"needs a program of number 1000 or above", []string{"migrate", "--database-url", newer}},
		"no server, send":    {"UNAVAILABLE", []string{"send", "a", "1", "--server", "127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, command(t, c.args...))
			if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, c.says) {
				t.Errorf("%q: %+v, want 1 and a line that says %q", c.args, got, c.says)
			}
			if !oneLine(got.stderr) || !strings.HasPrefix(got.stderr, "postbus: ") {
				t.Errorf("%q: says in more than its one line:\n%s", c.args, got.stderr)
			}
			if strings.Contains(got.stderr, "SECRET") {
				t.Errorf("shows a password: %s", got.stderr)
			}
		})
	}
	if conn, err := net.Dial("tcp", free); err == nil {
		conn.Close()
		t.Errorf("%s is still open", free)
	}
}

// latinDatabase makes a database that is not UTF8.
func latinDatabase(t *testing.T) string {
	t.Helper()
	conn := sql(t, pgtest.Server(t).URL())
	do(t, conn, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, pgtest.Server(t).URL())
		must(t, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "DROP DATABASE latin WITH (FORCE)")
		must(t, err)
	})
	return pgtest.Server(t).DatabaseURL("latin")
}

func TestMigrateAgainAndAtOnceChangesNothing(t *testing.T) {
	url := pgtest.Database(t)
	programs := []*program{begin(t, command(t, "migrate", "--database-url", url)), begin(t, command(t, "migrate", "--database-url", url))}
	said := regexp.MustCompile(`^schema postbus is at version [1-9][0-9]*\n$`)
	for _, p := range programs {
		if code := p.code(t); code != 0 || !said.MatchString(p.Stdout.String()) || p.Stderr.String() != "" {
			t.Errorf("two at once: exit code %d, %q, %q", code, p.Stdout.String(), p.Stderr.String())
		}
	}
	s := serve(t, url)
	id := send(t, s.bus, message("orders", "first"))
	again := run(t, command(t, "migrate", "--database-url", url))
	if again.code != 0 || again.stdout != programs[0].Stdout.String() {
		t.Errorf("again: %+v", again)
	}
	equal(t, "after it", textsOf(read(t, s.bus, 1, "orders")), []string{"first"})

	anew := run(t, command(t, "migrate", "--new-history", "--database-url", url))
	if anew.code != 0 || !strings.Contains(anew.stdout, "a new history begins at id 4294967296\n") {
		t.Errorf("a new history: %+v", anew)
	}
	if next := send(t, s.bus, message("orders", "second")); id >= 1<<32 || next <= 1<<32-1 {
		t.Errorf("ids %d and then %d", id, next)
	}
}

func TestVersionIsTold(t *testing.T) {
	got := run(t, command(t, "version"))
	if !regexp.MustCompile(`^postbus \S+\ncommit \S+( \(modified\))?\ngo1\.\S+\n$`).MatchString(got.stdout) || got.code != 0 || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

func TestHelpOfEachCommandStandsOnItsOwn(t *testing.T) {
	for _, args := range [][]string{{}, {"serve"}, {"dev"}, {"migrate"}, {"send"}, {"tail"}, {"version"}} {
		got := run(t, command(t, append(args, "--help")...))
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "Usage:\n  postbus") {
			t.Errorf("%q --help: %+v", args, got)
		}
		for line := range strings.Lines(got.stdout) {
			if fields := strings.Fields(line); len(fields) > 0 && strings.HasPrefix(fields[0], "--") && len(fields) < 3 {
				t.Errorf("%q --help: a flag that nobody explains: %s", args, line)
			}
		}
	}
}

var flagOfHelp = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)

func TestEveryFlagOfServeAndDevHasItsVariable(t *testing.T) {
	for _, name := range []string{"serve", "dev"} {
		flags := flagOfHelp.FindAllStringSubmatch(run(t, command(t, name, "--help")).stdout, -1)
		if len(flags) < 15 {
			t.Fatalf("%s --help has %d flags", name, len(flags))
		}
		for _, flag := range flags {
			if flag[1] == "help" {
				continue
			}
			variable := "POSTBUS_" + strings.ToUpper(strings.ReplaceAll(flag[1], "-", "_"))
			set := func(args []string, value string) *exec.Cmd {
				cmd := command(t, args...)
				// No start can succeed: the last check refuses, if the flag's own does not.
				cmd.Env = append(cmd.Env, "POSTBUS_LOG_FORMAT=xml", "POSTBUS_DATABASE_URL="+nowhere, variable+"="+value)
				return cmd
			}
			asFlag := run(t, set([]string{name, "--" + flag[1] + "=\x01bad"}, ""))
			asVariable := run(t, set([]string{name}, "\x01bad"))
			if asVariable.code != 2 || asFlag.code != 2 {
				t.Errorf("%s --%s: %+v, %s: %+v", name, flag[1], asFlag, variable, asVariable)
			}
			// A flag whose value is free text says nothing; every other names itself.
			if strings.Contains(asFlag.stderr, flag[1]) != (strings.Contains(asVariable.stderr, variable) || strings.Contains(asVariable.stderr, flag[1])) {
				t.Errorf("%s: the flag says %q and %s %q", name, asFlag.stderr, variable, asVariable.stderr)
			}
		}
	}
}

func TestMigrateRecordsTheLimitsOfSQLSenders(t *testing.T) {
	url := pgtest.Database(t)
	large := "SELECT postbus.send('orders', to_json(repeat('x', 70000)))"
	got := run(t, command(t, "migrate", "--database-url", url))
	conn := sql(t, url)
	if _, err := conn.Exec(t.Context(), large); got.code != 0 || err != nil {
		t.Fatalf("before: %+v, %v", got, err)
	}
	got = run(t, command(t, "migrate", "--database-url", url, "--max-body", "65536", "--key-retention", "1h"))
	if got.code != 0 || !strings.Contains(got.stdout, "recorded: max body 65536 bytes, retention 24h0m0s, key retention 1h0m0s\n") {
		t.Errorf("migrate: %+v", got)
	}
	if _, err := conn.Exec(t.Context(), large); err == nil || !strings.Contains(err.Error(), "payload: 70002 bytes, at most 65536") {
		t.Errorf("above the recorded limit: %v", err)
	}
	if got = run(t, command(t, "migrate", "--database-url", url, "--max-body", "1000")); got.code != 2 || !strings.Contains(got.stderr, "--max-body: 1000, must be 65536 to 3145728") {
		t.Errorf("outside the range: %+v", got)
	}
}
