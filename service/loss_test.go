package service_test

import (
	"fmt"
	"strings"
	"testing"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// trimmedLog fills the database at url with ten messages for the channel c, has
// retention take them before any node runs, and returns the id up to which it did.
func trimmedLog(t *testing.T, url string) int64 {
	t.Helper()
	db, conn := openDB(t, url), connect(t, url)
	exec(t, conn, "SELECT postbus.send('c', '1') FROM generate_series(1, 10)",
		"UPDATE postbus.bus SET sent_at = 'epoch'", "UPDATE postbus.state SET floor = 10")
	got, err := db.TrimBatch(short(t), 100)
	if want := (postgres.Trimmed{Mine: true, Messages: 10, TrimmedTo: 10}); err != nil || got != want {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
	return int64(got.TrimmedTo)
}

// The JSON form of a gap; that it is told on every transport, and when, is held by
// TestTrimmedMessagesAreToldAsAGap and TestAheadIsSaidOnlyOfWhatTheDatabaseNeverGave.
func TestGapHasAJSONForm(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	trimmed := trimmedLog(t, url)
	n := start(t, url, nodeOptions{})
	schemas := loadSchemas(t)
	for after, want := range map[int64]string{
		4: fmt.Sprintf(`{"notifications":[],"last":%d,"gap":{"reason":"REASON_TRIMMED","after":4,"until":%[1]d}}`, trimmed),
		9007199254740991: fmt.Sprintf(`{"notifications":[],"last":%d,"gap":{"reason":"REASON_AHEAD","after":%[1]d,"until":%[1]d}}`,
			trimmed),
		0: fmt.Sprintf(`{"notifications":[],"last":%d}`, trimmed),
	} {
		timeout := "50s" // a gap is answered at once
		if after == 0 {
			timeout = "0s"
		}
		_, answer := n.do(t, "GET", fmt.Sprintf("/v1/poll?channels=c&after=%d&timeout=%s", after, timeout), "")
		schemas.check(t, "PollResponse", answer)
		if got := strings.TrimSpace(string(answer)); got != want {
			t.Errorf("poll after %d: got %s, want %s", after, got, want)
		}
		line := n.lines(t, nil, fmt.Sprintf("channels=c&after=%d", after)).next(t)
		schemas.check(t, "SubscribeResponse", []byte(line))
		if line != want {
			t.Errorf("line after %d: got %s, want %s", after, line, want)
		}
	}
	until(t, "four gaps are counted", func() bool { return n.service.Stats().Gaps == 4 })
}

// Odoo's protocol has no place for a gap: one is no reason to answer.
func TestOdooWaitsOnBehindAGap(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	trimmed := trimmedLog(t, url)
	n := start(t, url, nodeOptions{})
	_, answer := n.do(t, "POST", "/longpolling/poll", `{"id":null,"params":{"channels":["c"],"last":4,"options":{"peek":true}}}`)
	if want := `{"jsonrpc":"2.0","id":null,"result":{"notifications":[],"channels":[["postbus","c"],["postbus","broadcast"]]}}`; string(answer) != want {
		t.Errorf("got %s, want %s", answer, want)
	}
	told := n.service.Stats().Gaps
	answered := make(chan string, 1)
	go func() {
		defer close(answered)
		_, answer := n.do(t, "POST", "/longpolling/poll", `{"params":{"channels":["c"],"last":4}}`)
		answered <- string(answer)
	}()
	until(t, "the poll has met the gap", func() bool { return n.service.Stats().Gaps > told })
	id := n.send(t, &postbusv1.Message{Channel: "c", Type: "t", Body: &postbusv1.Message_Binary{Binary: []byte{255}}})
	if id <= trimmed {
		t.Fatalf("id %d behind %d", id, trimmed)
	}
	want := fmt.Sprintf(`{"jsonrpc":"2.0","id":null,"result":[{"id":%d,"message":{"type":"t","payload":"/w=="}}]}`, id)
	if got := <-answered; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
