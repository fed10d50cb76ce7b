package service_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// The JSON form to the last byte, and the schemas of openapi.json; that payloads keep
// their tokens by every way in and out is held by
// TestJSONTokensArriveAsSentByEveryWayInAndOut.
func TestWhatIsSentInJSONArrivesByEveryTransport(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := start(t, url, nodeOptions{})
	schemas := loadSchemas(t)
	lines := n.lines(t, nil, "channels=orders")
	if first := lines.next(t); first != `{"notifications":[],"last":0}` {
		t.Fatalf("first line %s", first)
	}
	stream, err := n.client.Subscribe(short(t), &postbusv1.SubscribeRequest{Channels: []string{"orders", "orders"}})
	must(t, err)
	if first, err := stream.Recv(); err != nil || len(first.Notifications) != 0 {
		t.Fatal(first, err)
	}

	resp, answer := n.do(t, "POST", "/v1/send", `{"_note":1,"messages":[{"channel":"orders","type":"paid","key":null,
		"payload": {"order" : 12345678901234567890, "order":"\u00e9"},"headers":{"a":"<é>"},"ttl":"60.5s"}]}`)
	schemas.check(t, "SendResponse", answer)
	if resp.StatusCode != 200 || strings.TrimSpace(string(answer)) != `{"results":[{"id":1,"duplicate":false}]}` {
		t.Fatal(resp.Status, string(answer))
	}

	sent := value[time.Time](t, connect(t, url), "SELECT sent_at FROM postbus.bus").UTC().Format(time.RFC3339Nano)
	want := `{"notifications":[{"id":1,"channel":"orders","type":"paid","payload":{"order":12345678901234567890,"order":"\u00e9"},` +
		`"headers":{"a":"<é>"},"sent_at":"` + sent + `"}],"last":1}`
	if got := lines.next(t); got != want {
		t.Fatalf("line\n got %s\nwant %s", got, want)
	}
	for _, poll := range []func() (*http.Response, []byte){
		func() (*http.Response, []byte) {
			return n.do(t, "GET", "/v1/poll?channels=x&channels=orders&after=0&_=7", "")
		},
		func() (*http.Response, []byte) {
			return n.do(t, "POST", "/v1/poll", `{"channels":["orders"],"after":"0","timeout":null,"max":5}`)
		},
	} {
		resp, answer := poll()
		schemas.check(t, "PollResponse", answer)
		if resp.StatusCode != 200 || strings.TrimSpace(string(answer)) != want {
			t.Fatalf("poll %s\n got %s\nwant %s", resp.Status, answer, want)
		}
	}
	got, err := stream.Recv()
	if err != nil || got.Last != 1 || len(got.Notifications) != 1 {
		t.Fatal(got, err)
	}
	if json := got.Notifications[0].GetJson(); json != `{"order" : 12345678901234567890, "order":"\u00e9"}` {
		t.Fatalf("gRPC payload %s", json)
	}
	_, answer = n.do(t, "POST", "/longpolling/poll", `{"jsonrpc":"2.0","id":"x","params":{"channels":["orders"],"last":0}}`)
	if string(answer) != `{"jsonrpc":"2.0","id":"x","result":[{"id":1,"message":{"type":"paid","payload":{"order":12345678901234567890,"order":"\u00e9"}}}]}` {
		t.Fatalf("Odoo %s", answer)
	}
}

// TestBytesArriveAsSentByEveryWayInAndOut holds that of every bytes.
func TestBase64OfEveryAlphabetIsRead(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	texts := []string{"+/8", "-_8=", "-_8", "+/8="}
	for _, text := range texts {
		if resp, answer := n.do(t, "POST", "/v1/send", `{"messages":[{"channel":"b","binary":"`+text+`"}]}`); resp.StatusCode != 200 {
			t.Errorf("%s: %s %s", text, resp.Status, answer)
		}
	}
	_, answer := n.do(t, "GET", "/v1/poll?channels=b&after=0", "")
	loadSchemas(t).check(t, "PollResponse", answer)
	if got := strings.Count(string(answer), `"binary":"+/8="`); got != len(texts) || strings.Contains(string(answer), "payload") {
		t.Error(string(answer))
	}
}

// A poll waits as long as it asks to; TestPollAnswersEmptyBeforeTheDeadline and
// TestGrpcTimeoutIsTheDeadlineOfAPoll hold that it ends in time.
func TestPollThatFindsNothingWaitsAndAnswersEmpty(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	id := n.send(t, jsonMessage("other", "1"))
	for name, c := range map[string]struct {
		least time.Duration
		poll  func() string
	}{
		"timeout": {500 * time.Millisecond, func() string {
			resp, err := n.client.Poll(short(t), &postbusv1.PollRequest{Channels: []string{"c"}, Timeout: durationpb.New(500 * time.Millisecond)})
			must(t, err)
			return fmt.Sprint(len(resp.Notifications), resp.Last, resp.Gap != nil)
		}},
		"timeout of a GET": {500 * time.Millisecond, func() string {
			resp, answer := n.do(t, "GET", "/v1/poll?channels=c&timeout=0.5s", "")
			return resp.Status + " " + strings.TrimSpace(string(answer))
		}},
	} {
		want := fmt.Sprintf(`200 OK {"notifications":[],"last":%d}`, id)
		if name == "timeout" {
			want = fmt.Sprint(0, id, false)
		}
		begun := time.Now()
		if got := c.poll(); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if took := time.Since(begun); took < c.least {
			t.Errorf("%s: answered after %v, want %v or more", name, took, c.least)
		}
	}
}

// TestSecondMessageWithAKeyStoresNothing holds the promise; this is how JSON and the
// counts tell.
func TestDuplicatesAreToldAndCounted(t *testing.T) {
	t.Parallel()
	n := start(t, pgtest.Database(t), nodeOptions{})
	body := `{"messages":[{"channel":"c","key":"k"},{"channel":"c","key":"k"},{"channel":"d","key":"k"}]}`
	if _, answer := n.do(t, "POST", "/v1/send", body); strings.TrimSpace(string(answer)) !=
		`{"results":[{"id":1,"duplicate":false},{"id":1,"duplicate":true},{"id":2,"duplicate":false}]}` {
		t.Error(string(answer))
	}
	if stats := n.service.Stats(); stats.Sends != 1 || stats.Messages != 3 || stats.Duplicates != 1 {
		t.Errorf("%+v", stats)
	}
}
