package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/process"
)

// TestOdooWorkerMissesNothingOverRestarts: a client that does what the bus worker of Odoo 17
// does gets each message once, in order, although its server is stopped and killed and its
// channels grow.
func TestOdooWorkerMissesNothingOverRestarts(t *testing.T) {
	t.Parallel()
	needs(t, "node")
	url := pgtest.Database(t)
	start := func() *served { return serve(t, url, "--odoo-version", "17") }
	at := start()
	conn := sql(t, url)

	frontURL, moveTo := odooFront(t)
	moveTo(at)

	cmd := exec.Command("node", "--experimental-websocket", "odoo_worker.mjs", "ws"+strings.TrimPrefix(frontURL, "http"), "17.0-1", "first")
	cmd.Env = process.Environment()
	stdin, err := cmd.StdinPipe()
	must(t, err)
	worker := begin(t, cmd)
	sent := 0
	burst := func(channels ...string) {
		for i := range 10 {
			sent++
			do(t, conn, fmt.Sprintf(`SELECT postbus.send('%s', '%d', type => 'counted')`, channels[i%len(channels)], sent))
		}
	}
	received := func(what string) {
		t.Helper()
		worker.await(t, &worker.Stdout, what, func(text string) bool { return strings.Count(text, "\n") >= sent })
	}

	burst("first", "broadcast")
	received("what was sent before it had subscribed")
	burst("first")
	received("what was sent while it read")
	at.stop(t)
	burst("first")
	at = start()
	moveTo(at)
	received("what was sent while its server was stopped")
	burst("second") // a page subscribes a moment after it has looked at the records
	_, err = io.WriteString(stdin, "second\n")
	must(t, err)
	received("what was sent on the channel before it was added")
	burst("first", "second")
	must(t, at.Cmd.Process.Kill())
	at.code(t)
	burst("second", "first", "broadcast")
	at = start()
	moveTo(at)
	received("what was sent while its server was dead")
	must(t, stdin.Close())
	if code := worker.code(t); code != 0 {
		t.Errorf("the worker ended with %d", code)
	}

	n, last := 0, int64(0)
	for line := range strings.Lines(worker.Stdout.String()) {
		var got struct {
			ID      int64
			Type    string
			Payload int
		}
		must(t, json.Unmarshal([]byte(line), &got))
		if n++; got.Payload != n || got.ID <= last || got.Type != "counted" {
			t.Fatalf("message %d is %s", n, line)
		}
		last = got.ID
	}
	if n != sent {
		t.Errorf("%d messages, %d were sent", n, sent)
	}
}
