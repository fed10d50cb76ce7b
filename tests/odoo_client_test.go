package tests

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/process"
)

// TestOdooClientMissesNothingOverRestarts: a client that does what Odoo's of 13 to 15 do
// gets each message once, in order, although its server is stopped and killed, and does not
// ask more often than it is answered.
func TestOdooClientMissesNothingOverRestarts(t *testing.T) {
	t.Parallel()
	needs(t, "node")
	for _, version := range []int{13, 15} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			start := func() *served { return serve(t, url, "--odoo-version", fmt.Sprint(version)) }
			at := start()
			conn := sql(t, url)

			frontURL, moveTo := odooFront(t)
			moveTo(at)

			cmd := exec.Command("node", "odoo_client.mjs", frontURL, fmt.Sprint(version))
			cmd.Env = process.Environment()
			stdin, err := cmd.StdinPipe()
			must(t, err)
			client := begin(t, cmd)
			sent := 0
			burst := func(channel string) {
				for range 10 {
					sent++
					payload := fmt.Sprintf(`{"n": %d}`, sent)
					if sent == 15 {
						payload = fmt.Sprintf(`{"n": %d, "add": "second"}`, sent)
					}
					do(t, conn, fmt.Sprintf(`SELECT postbus.send('%s', '%s')`, channel, payload))
				}
			}
			received := func(what string) {
				client.await(t, &client.Stdout, what, func(text string) bool { return strings.Count(text, "\n") == sent })
			}

			burst("first")
			received("what was sent while it polled")
			at.stop(t)
			burst("first")
			at = start()
			moveTo(at)
			received("what was sent while its server was stopped")
			burst("second")
			received("what was sent on the channel that it has added")
			must(t, at.Cmd.Process.Kill())
			at.code(t)
			burst("second")
			at = start()
			moveTo(at)
			burst("first")
			received("what was sent while its server was killed")

			must(t, stdin.Close())
			if code := client.code(t); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			n := 0
			for line := range strings.Lines(client.Stdout.String()) {
				n++
				if !strings.Contains(line, fmt.Sprintf(`"payload":{"n":%d`, n)) {
					t.Fatalf("line %d: %s", n, line)
				}
			}
			var counts struct{ Polls, Empty, Failures int }
			must(t, json.Unmarshal([]byte(client.Stderr.String()), &counts))
			// One aborted for the new channel, one at the end, and one more is ended empty by
			// the stop.
			if counts.Empty > 1 || counts.Failures < 2 || counts.Polls > sent+counts.Empty+counts.Failures+2 {
				t.Errorf("%+v for %d messages", counts, sent)
			}
		})
	}
}
