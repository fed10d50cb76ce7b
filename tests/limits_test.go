package tests

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestBytesArriveAsSentByEveryWayInAndOut(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	bodies := [][]byte{all, {}, {0}, []byte("\xff\xfe"), []byte(`"json"`)}
	var channels []string
	for _, in := range waysIn(t, n, url) {
		if in.binary == nil {
			continue
		}
		channels = append(channels, in.name)
		for _, body := range bodies {
			if err := in.binary(in.name, body); err != nil {
				t.Fatalf("%s of %x: %v", in.name, body, err)
			}
		}
	}
	for out, read := range waysOut(t, n, url) {
		got := make(map[string][][]byte)
		for _, a := range read(channels, len(channels)*len(bodies)) {
			if a.Payload != nil || a.Binary == nil {
				t.Errorf("%s: %+v, want bytes alone", out, a)
			}
			got[a.Channel] = append(got[a.Channel], a.Binary)
		}
		for _, channel := range channels {
			if !slices.EqualFunc(got[channel], bodies, bytes.Equal) {
				t.Errorf("%s, from %s: %x", out, channel, got[channel])
			}
		}
	}
	for _, channel := range channels {
		result := string(n.odoo(t, fmt.Sprintf(`{"channels":[%q],"last":-1,"options":{"peek":true}}`, channel)).Result)
		if !strings.Contains(result, fmt.Sprintf(`"payload":%q`, base64.StdEncoding.EncodeToString(all))) {
			t.Errorf("Odoo, from %s: %.500s", channel, result)
		}
	}
}

// A refusal is what is told of a send that is above a limit, by each way.
type refusal struct {
	name string
	err  error
	ok   func(err error) bool // that the kind of error is right
}

// sendAll sends messages with these payloads by every way that takes several.
func sendAll(t *testing.T, n *node, url string, payloads ...string) []refusal {
	t.Helper()
	messages := make([]*postbusv1.Message, len(payloads))
	members := make([]string, len(payloads))
	for i, payload := range payloads {
		messages[i] = &postbusv1.Message{Channel: "large", Body: &postbusv1.Message_Json{Json: payload}}
		members[i] = `{"channel":"large","payload":` + payload + `}`
	}
	body := `{"messages":[` + strings.Join(members, ",") + `]}`
	_, grpc := n.rpc.Send(short(t), sendRequest(messages...))
	var json error
	if code, answer := n.post(t, "/v1/send", body); code != 200 {
		json = fmt.Errorf("%d %s", code, answer)
	}
	conn := sql(t, url)
	_, inSQL := conn.Exec(short(t), "SELECT postbus.send_messages($1::text::json)", body)
	told := []refusal{
		{"gRPC", grpc, func(err error) bool { return status.Code(err) == codes.InvalidArgument && reason(err) != "" }},
		{"JSON", json, func(err error) bool { return strings.HasPrefix(err.Error(), "400 {\"error\":{\"code\":3,") }},
		{"postbus.send_messages", inSQL, raised},
	}
	if len(payloads) == 1 {
		_, err := conn.Exec(short(t), "SELECT postbus.send('large', $1::text)", payloads[0])
		told = append(told, refusal{"postbus.send", err, raised})
		_, err = conn.Exec(short(t), "SELECT postbus.send('large', $1::text::json)", payloads[0])
		told = append(told, refusal{"postbus.send of a json", err, raised})
	}
	return told
}

// raised reports whether err is an exception of a function, of the class of data.
func raised(err error) bool {
	var raised *pgconn.PgError
	return errors.As(err, &raised) && raised.Code[:2] == "22"
}

func TestLimitsAreToldByNameAndNothingIsStored(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	conn := sql(t, url)
	reader := n.subscribe(t, 0, "other")
	payload := func(bytes int) string { return `"` + strings.Repeat("x", bytes-2) + `"` }
	many := func(count int) []string { return slices.Repeat([]string{"1"}, count) }
	const mib = 1 << 20
	for name, c := range map[string]struct {
		within, above []string
		says          string // of every refusal
	}{
		"a payload": {[]string{payload(mib)}, []string{payload(mib + 1)}, "1048577 bytes, at most 1048576"},
		"a send": {[]string{payload(mib), payload(mib), payload(mib), payload(mib - 8*4096)},
			[]string{payload(mib), payload(mib), payload(mib), payload(mib), payload(100)}, "bytes, at most 4194304"},
		"messages": {many(1000), many(1001), "1000"},
		"depth": {[]string{strings.Repeat("[", 1000) + strings.Repeat("]", 1000)},
			[]string{strings.Repeat("[", 1001) + strings.Repeat("]", 1001)}, ": nested 1001 deep, at most 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			before := ask[int](t, conn, "SELECT count(*) FROM postbus.bus")
			for _, way := range sendAll(t, n, url, c.above...) {
				if way.err == nil || !way.ok(way.err) || !strings.Contains(way.err.Error(), c.says) {
					t.Errorf("%s above the limit: %.300v, want one that says %q", way.name, way.err, c.says)
				}
			}
			if stored := ask[int](t, conn, "SELECT count(*) FROM postbus.bus"); stored != before {
				t.Errorf("%d messages that were refused are stored", stored-before)
			}
			ways := sendAll(t, n, url, c.within...)
			for _, way := range ways {
				if way.err != nil {
					t.Errorf("%s within the limit: %.300v", way.name, way.err)
				}
			}
			if stored := ask[int](t, conn, "SELECT count(*) FROM postbus.bus"); stored != before+len(ways)*len(c.within) {
				t.Errorf("%d stored, want %d", stored-before, len(ways)*len(c.within))
			}
			n.send(t, message("other", name))
			reader.expect(name)
		})
	}
	if _, err := conn.Exec(short(t), "SELECT postbus.send_binary('large', $1)", make([]byte, mib+1)); !raised(err) || !strings.Contains(err.Error(), "1048577 bytes, at most 1048576") {
		t.Errorf("postbus.send_binary above the limit: %v", err)
	}
	before := ask[int64](t, conn, "SELECT max(id) FROM postbus.bus") - 1
	do(t, conn, fmt.Sprintf("SELECT postbus.send_binary('large', decode(repeat('00ff', %d), 'hex'))", mib/2))
	if got := n.pollFor(t, longest, before+1, "large").Notifications; len(got) != 1 || len(got[0].GetBinary()) != mib {
		t.Errorf("a binary payload at the limit: %d notifications", len(got))
	}
}

func TestLifeAndKeyMeanTheSameByEveryWayIn(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	conn := sql(t, url)
	const body = `{"messages":[{"channel":"life","payload":1,"ttl":"3600.5s","key":"the key"}]}`
	ways := map[string]func(){
		"JSON": func() {
			if code, answer := n.post(t, "/v1/send", body); code != 200 {
				t.Fatal(answer)
			}
		},
		"postbus.send":          func() { do(t, conn, `SELECT postbus.send('life', '1', ttl => '3600.5 s', key => 'the key')`) },
		"postbus.send_messages": func() { do(t, conn, `SELECT postbus.send_messages('`+body+`')`) },
		"postbus send": func() {
			if got := run(t, command(t, "send", "life", "1", "--server", n.grpcAddr, "--ttl", "3600500ms", "--key", "the key")); got.code != 0 {
				t.Fatal(got.stderr)
			}
		},
	}
	const life = "SELECT (extract(epoch FROM expires_at - sent_at) * 1000)::bigint FROM postbus.bus WHERE channel = 'life'"
	for name, way := range ways {
		do(t, conn, "DELETE FROM postbus.bus WHERE channel = 'life'", "DELETE FROM postbus.keys")
		way()
		// sent_at is taken a moment after the life begins, in SQL.
		if got := ask[int64](t, conn, life); got < 3_600_000 || got > 3_601_000 {
			t.Errorf("%s: lives for %d ms, want 3600500", name, got)
		}
		for _, again := range ways {
			again()
		}
		if got := ask[int](t, conn, "SELECT count(*) FROM postbus.bus WHERE channel = 'life'"); got != 1 {
			t.Errorf("%s, and then by every other way with the same key: %d stored", name, got)
		}
	}
}
