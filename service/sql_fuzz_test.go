package service

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/jsonform"
	"github.com/postbus/postbus/internal/postgres"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// FuzzSendMessages: postbus.send_messages and POST /v1/send take and refuse the same
// bodies. The exceptions are documented: escapes that name no character, which
// PostgreSQL's reader does not take, and sizes, which SQL counts of the text.
func FuzzSendMessages(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"channel":"a","payload": {"a" : 1e400, "a":1},"headers":{"_h":"v"},"ttl":"1.5s","key":"k"}]}`,
		`{"messages":[{"channel":"a","binary":"-_8"},null],"_x":[1,{}]}`, `{"messages":null}`, `null`, `{"messages":[{"payload":null}]}`,
		`{"messages":[{"channel":"a","binary":"QQ="}]}`, `{"messages":[{"channel":"a","binary":"===="}]}`, `{"messages":[{"channel":"a","binary":"QQ=="}]}`,
		`{"messages":[{"channel":"a","binary":"Q=Q="}]}`, `{"messages":[{"channel":"a","binary":"QR"}]}`, `{"messages":[{"channel":"a","binary":null,"payload":1}]}`,
		`{"messages":[{"channel":"a","binary":"","payload":null}]}`, `{"messages":[{"channel":"a","ttl":"1s","ttl":"2s"}]}`,
		`{"messages":[{"channel":"a","ttl":".5s"}]}`, `{"messages":[{"channel":"a","ttl":"1.s"}]}`, `{"messages":[{"channel":"a","ttl":"0s"}]}`,
		`{"messages":[{"channel":"a","ttl":"99999999999s"}]}`, `{"messages":[{"channel":"a","ttl":"9999999999999s"}]}`, `{"messages":[{"channel":"a","ttl":"-1s"}]}`,
		`{"messages":[{"channel":"a","ttl":"0.0000000001s"}]}`, `{"messages":[{"channel":"a","ttl":"1.0000000000s"}]}`, `{"messages":[{"channel":"a","ttl":null,"key":null,"type":null,"headers":null}]}`,
		`{"messages":[{"channel":"a","headers":{"a":null}}]}`, `{"messages":[{"channel":"a","headers":{"a":1}}]}`, `{"messages":[{"channel":"a","headers":{"a":"","a":""}}]}`,
		`{"messages":[{"channel":"a","headers":{"_a":"1","_a":"2"}}]}`, `{"messages":[{"channel":"a","headers":{"postbus-a":""}}]}`, `{"messages":[{"channel":"a","headers":[]}]}`,
		`{"messages":[{"channel":" a"}]}`, `{"messages":[{"channel":"a\u2003"}]}`, `{"messages":[{"channel":"\u200b"}]}`, `{"messages":[{"channel":"a\u0085b"}]}`, `{"messages":[{"channel":"\ufeff"}]}`,
		`{"messages":[{"channel":"a\u180e"}]}`, `{"messages":[{"channel":"postbus:a"}]}`, `{"messages":[{"channel":"a","type":"\u00a0"}]}`, `{"messages":[{"channel":"a","key":"\u2028"}]}`,
		`{"messages":[{"channel":1}]}`, `{"messages":[[]]}`, `{"messages":{}}`, `{"messages":[{"chan":"a"}]}`, `{"Messages":[]}`, `{"messages":[],"messages":[]}`, ` {"messages" : [ { "channel" : "a" } ] } `,
		`{"messages":[{"channel":"a","_":1,"_":2}]}`, `{"messages":[{"channel":"\ud83d\ude00"}]}`, `{"messages":[{"ch\u0061nnel":"a"}]}`, `{"messages":[{"channel":"a","payload":` + strings.Repeat("[", 1001) + strings.Repeat("]", 1001) + `}]}`,
	} {
		f.Add([]byte(seed))
	}
	ctx := f.Context()
	url := pgtest.Database(f)
	db, err := postgres.Open(ctx, postgres.Options{URL: url})
	if err != nil {
		f.Fatal(err)
	}
	db.Close()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	s := newFuzzed()
	f.Fuzz(func(t *testing.T, body []byte) {
		if !utf8.Valid(body) || strings.Contains(string(body), "\x00") || strings.Contains(string(body), `\u0000`) || jsonform.HasLoneSurrogate(body) || len(body) > 64<<10 {
			return
		}
		var req postbusv1.SendRequest
		err := jsonReader{&s.limits}.send(body, &req)
		if err == nil {
			_, err = s.messagesOf(&req)
		}
		if err != nil {
			wantRefusal(t, err)
		}
		sql := sendMessages(t, conn, string(body))
		if (err == nil) != (sql == nil) {
			t.Fatalf("%s\nPOST /v1/send: %v\npostbus.send_messages: %v", body, err, sql)
		}
	})
}

// sendMessages calls postbus.send_messages in a transaction that is rolled back. What it
// returns is a refusal of the data.
func sendMessages(t *testing.T, conn *pgx.Conn, body string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, "SELECT postbus.send_messages($1::text::json)", body)
	if raised := (*pgconn.PgError)(nil); errors.As(err, &raised) && !strings.HasPrefix(raised.Code, "22") {
		t.Fatalf("%s: %v", body, err)
	} else if err != nil && raised == nil {
		t.Fatal(err)
	}
	return err
}
