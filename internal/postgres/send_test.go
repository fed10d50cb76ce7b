package postgres

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

func TestSendCommitsWithItsTransaction(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	for i, isolation := range []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"} {
		exec(t, conn, "BEGIN ISOLATION LEVEL "+isolation,
			fmt.Sprintf("SELECT postbus.send('a', '%d1')", i+1), "SAVEPOINT s", "SELECT postbus.send('a', '\"undone\"')", "ROLLBACK TO s",
			fmt.Sprintf("SELECT postbus.send('a', '%d2')", i+1), "COMMIT",
			"BEGIN ISOLATION LEVEL "+isolation, "SELECT postbus.send('a', '\"rolled back\"')", "ROLLBACK")
	}
	exec(t, conn, "BEGIN", "SELECT postbus.send('a', '91')", "SET CONSTRAINTS ALL IMMEDIATE", "SELECT postbus.send('a', '92')", "COMMIT",
		"SET session_replication_role = replica", "SELECT postbus.send('a', '93')")
	if got, want := payloads(t, conn), "11 12 21 22 31 32 91 92 93"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
	if left := value[int](t, conn, "SELECT (SELECT count(*) FROM postbus.outbox) + (SELECT count(*) FROM postbus.outbox_usual)"); left != 0 {
		t.Errorf("%d rows are left in the outboxes", left)
	}
}

// The usual message and any other take two ways to the log.
func TestSendKeepsTheOrderOfATransaction(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "BEGIN", "SELECT postbus.send('a', '1')", "SELECT postbus.send('a', '2', ttl => '1 h')", "SELECT postbus.send('b', '3', type => 't')",
		"SAVEPOINT s", "SELECT postbus.send('a', '\"undone\"')", "SELECT postbus.send('a', '\"undone\"', key => 'k')", "ROLLBACK TO s",
		"SELECT postbus.send('a', '4', key => 'k')", "SELECT postbus.send('a', '5')", "SELECT postbus.send('a', '6'::jsonb)",
		"SELECT postbus.send('a', '7', headers => '{\"h\":\"v\"}')", "SELECT postbus.send('a', '8')", "COMMIT",
		"BEGIN", "SELECT postbus.send('a', '9', ttl => '1 h')", "SELECT postbus.send('a', '10')", "SET CONSTRAINTS ALL IMMEDIATE",
		"SELECT postbus.send('a', '11')", "SELECT postbus.send('a', '12', ttl => '1 h')", "COMMIT")
	if got, want := payloads(t, conn), "1 2 3 4 5 6 7 8 9 10 11 12"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestSendHoldsNoIDWhileItsTransactionIsOpen(t *testing.T) {
	d, url := open(t)
	slow, quick := connect(t, url), connect(t, url)
	exec(t, slow, "BEGIN", "SELECT postbus.send('a', '1')")
	exec(t, quick, "SELECT postbus.send('a', '2')")
	tail, _ := openTail(t, d, 0)
	if holders, err := tail.Holders(t.Context()); err != nil || len(holders) != 0 {
		t.Errorf("holders %v, %v; want none", holders, err)
	}
	exec(t, slow, "COMMIT")
	if got := payloads(t, slow); got != "2 1" {
		t.Errorf("order %q, want that of the commits", got)
	}
}

func TestSendKeepsTokens(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	const text = `{"b": 1e400, "a": "\u00e9\ud83d\ude00", "a": 12345678901234567890.10}`
	exec(t, conn, "SELECT postbus.send('a', '"+text+"')", "SELECT postbus.send('a', '"+text+"'::json)",
		`SELECT postbus.send_messages('{"messages":[{"channel":"a","payload":`+text+`},{"channel":"a","payload":null},{"channel":"a"}]}')`,
		"SELECT postbus.send('a')", "SELECT postbus.send('a', NULL)", `SELECT postbus.send('a', '{"b":2,"a":1}'::jsonb)`)
	if got, want := payloads(t, conn), strings.Repeat(text+" ", 3)+`null null null null {"a": 1, "b": 2}`; got != want {
		t.Errorf("stored\n%s\nwant\n%s", got, want)
	}
	exec(t, conn, `SELECT postbus.send('c', '"\u0000\ud800"')`) // no characters, but tokens
	if got := value[string](t, conn, "SELECT json FROM postbus.bus WHERE channel = 'c'"); got != `"\u0000\ud800"` {
		t.Errorf("stored %s", got)
	}
	exec(t, conn, `SELECT postbus.send_binary('b', '\x00ff')`, `SELECT postbus.send_binary('b', '')`,
		`SELECT postbus.send_messages('{"messages":[{"channel":"b","binary":"AP8="},{"channel":"b","binary":"-_8"},{"channel":"b","binary":""}]}')`)
	got := value[string](t, conn, "SELECT string_agg(encode(bin, 'hex'), ' ' ORDER BY id) FROM postbus.bus WHERE channel = 'b'")
	if want := "00ff  00ff fbff "; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestSendNamesFieldFaultAndLimit(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ call, message string }{
		{"send(NULL, '1')", "channel: must not be null"},
		{"send('', '1')", "channel: empty, 1 to 255 bytes"},
		{"send('" + long + "', '1')", "channel: 300 bytes, at most 255"},
		{"send(E'a\\u0007b', '1')", "channel: control character U+0007 at byte 1, none allowed"},
		{"send(E'a\\u0085b', '1')", "channel: control character U+0085 at byte 1, none allowed"},
		{"send(' a', '1')", "channel: white space at an end, none allowed"},
		{"send(E'a\\u3000', '1')", "channel: white space at an end, none allowed"},
		{"send('postbus:a', '1')", `channel: begins with "postbus:", which is reserved`},
		{"send('a', '1', type => '" + long + "')", "type: 300 bytes, at most 255"},
		{"send('a', '1', type => 'b ')", "type: white space at an end, none allowed"},
		{"send('a', '1', type => E'b\\u007f')", "type: control character U+007F at byte 1, none allowed"},
		{"send('a', '1', type => 'postbus:b')", `type: begins with "postbus:", which is reserved`},
		{`send('a', '1', headers => '{"":"1"}')`, `headers[""]: empty name, 1 to 255 bytes`},
		{"send('a', '1', key => '" + long + "')", "key: 300 bytes, at most 255"},
		{"send('a', '1', ttl => '0')", "ttl: 00:00:00, must be above zero"},
		{"send('a', '1', ttl => '-1 s')", "ttl: -00:00:01, must be above zero"},
		{"send('a', '1', headers => '[]')", "headers: must be a JSON object, is of type array"},
		{`send('a', '1', headers => '{"n":1}')`, `headers["n"]: must be a string, is of type number`},
		{`send('a', '1', headers => '{"postbus-a":"1"}')`, `headers["postbus-a"]: name begins with "postbus-", which is reserved`},
		{"send('a', '1', headers => jsonb_build_object('n', repeat('x', 5000)))", "headers: 5001 bytes in all, at most 4096"},
		{"send('a', '1', headers => (SELECT jsonb_object_agg('h' || n, '') FROM generate_series(1, 65) n))", "headers: 65 entries, at most 64"},
		{"send('a', to_json(repeat('x', 1048576)))", "payload: 1048578 bytes, at most 1048576"},
		{"send_binary('a', repeat('x', 1048577)::bytea)", "binary: 1048577 bytes, at most 1048576"},
		{"send('a', repeat('[', 1001) || repeat(']', 1001))", "payload: nested 1001 deep, at most 1000"},
		{"send('a', 'hello')", "invalid input syntax for type json"},
		{"send('a', '')", "invalid input syntax for type json"},
		{"send_messages('[]')", "body: must be a JSON object"},
		{"send_messages('{}')", "messages: must be an array"},
		{`send_messages('{"messages":[]}')`, "messages: 0 messages, 1 to 1000"},
		{`send_messages('{"messages":[{"channel":"a"}],"mesages":1}')`, "mesages: unknown field"},
		{`send_messages('{"messages":[{"channel":"a"},{"chanel":"a"}]}')`, "messages[1].chanel: unknown field"},
		{`send_messages('{"messages":[{"channel":"a","channel":"b"}]}')`, "messages[0].channel: given twice"},
		{`send_messages('{"messages":[{"channel":7}]}')`, "messages[0].channel: must be a string, is of type number"},
		{`send_messages('{"messages":[{"type":"a"}]}')`, "messages[0].channel: must not be null"},
		{`send_messages('{"messages":[7]}')`, "messages[0]: must be an object, is of type number"},
		{`send_messages('{"messages":[{"channel":"a","ttl":"1m"}]}')`, `messages[0].ttl: "1m" is not a duration above zero such as "1.5s"`},
		{`send_messages('{"messages":[{"channel":"a","ttl":"0s"}]}')`, `messages[0].ttl: 00:00:00, must be above zero`},
		{`send_messages('{"messages":[{"channel":"a","binary":"?"}]}')`, "messages[0].binary: is not base64"},
		{`send_messages('{"messages":[{"channel":"a","binary":"","payload":null}]}')`, "messages[0].binary: given beside payload, at most one of the two"},
		{`send_messages('{"messages":[{"channel":"a","headers":{"n":"1","n":"2"}}]}')`, "messages[0].headers.n: given twice"},
	} {
		_, err := conn.Exec(t.Context(), "SELECT postbus."+c.call, pgx.QueryExecModeSimpleProtocol)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Message != c.message || refused.Code[:2] != "22" {
			t.Errorf("%.80s: %v, want %q", c.call, err, c.message)
		}
	}
	exec(t, conn, "SELECT postbus.send(E'a \\u00e9/#*', repeat('[', 1000) || repeat(']', 1000), type => 'b c')",
		"SELECT postbus.send(repeat('c', 255), '1', type => repeat('t', 255))", "SELECT postbus.send('a:b', '1', type => 'a:postbus:')",
		"SELECT postbus.send('a', to_json(repeat('[', 2000)))", "SELECT postbus.send('a', '1', ttl => '1000000 years')",
		"SELECT postbus.send('a', to_json(repeat('x', 1048574)))",
		`SELECT postbus.send_messages('{"messages":[{"channel":"a","_note":1,"ttl":"1.5s","headers":null}],"_x":1}')`)
	if n := value[int](t, conn, "SELECT count(*) FROM postbus.bus"); n != 7 {
		t.Errorf("%d messages stored, want the 7 that are right", n)
	}
}

func TestSendersOfEveryIsolationAtOnce(t *testing.T) {
	_, url := open(t)
	var group sync.WaitGroup
	for i, isolation := range []string{"read committed", "repeatable read", "serializable", "serializable", "serializable", "serializable"} {
		conn := connect(t, url)
		exec(t, conn, "SET default_transaction_isolation = '"+isolation+"'")
		group.Go(func() {
			for n := range 100 {
				if _, err := conn.Exec(t.Context(), "SELECT postbus.send('a', $1::text)", fmt.Sprint(i*1000+n)); err != nil {
					t.Errorf("%s: %v", isolation, err)
					return
				}
			}
		})
	}
	group.Wait()
	if n := value[int](t, connect(t, url), "SELECT count(DISTINCT json) FROM postbus.bus"); n != 600 {
		t.Errorf("%d messages, want 600", n)
	}
}

func TestSendDeletesByCtid(t *testing.T) {
	server := pgtest.Exclusive(t, nil)
	url := pgtest.DatabaseOn(t, server)
	openAt(t, url).Close()
	check := func(conn *pgx.Conn, when string) {
		t.Helper()
		exec(t, conn, "VACUUM ANALYZE postbus.outbox, postbus.outbox_usual", "SELECT postbus.send('a', '1')", "BEGIN")
		for range 10 {
			exec(t, conn, "SELECT postbus.send('a', '1')", "SELECT postbus.send('a', '1', key => clock_timestamp()::text)")
		}
		for _, outbox := range []string{"outbox", "outbox_usual"} {
			if n := value[int](t, conn, "SELECT pg_stat_get_xact_numscans('postbus."+outbox+"'::regclass)"); n != 0 {
				t.Errorf("%d scans of the %s %s", n, outbox, when)
			}
		}
		exec(t, conn, "COMMIT")
	}
	conn := connect(t, url)
	check(conn, "in the beginning")
	// A crash empties the tables.
	conn.Close(t.Context())
	if err := server.StopImmediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(connect(t, url), "after a crash")
}

func TestRolesMayDoTheirPartOnly(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	for _, c := range []struct {
		role, sql string
		may       bool
	}{
		{"postbus_sender", "SELECT postbus.send('a', '1')", true},
		{"postbus_sender", "SELECT postbus.send('a', '1'::jsonb, ttl => '1 h', key => 'k')", true},
		{"postbus_sender", `SELECT postbus.send_messages('{"messages":[{"channel":"a"}]}')`, true},
		{"postbus_sender", "SELECT postbus.id_of('a', 'k')", true},
		{"postbus_sender", "SELECT postbus.poll('{a}')", false},
		{"postbus_sender", "INSERT INTO postbus.bus (channel, type, json) VALUES ('a', '', '1')", false},
		{"postbus_sender", "INSERT INTO postbus.outbox (channel, type, json) VALUES ('a', '', '1')", false},
		{"postbus_sender", "INSERT INTO postbus.outbox_usual (channel, type, json) VALUES ('a', '', '1')", false},
		{"postbus_sender", "SELECT postbus.stage('', 'a', '1', NULL, '', NULL, NULL, NULL)", false},
		{"postbus_reader", "SELECT postbus.poll('{a}', 0)", true},
		{"postbus_reader", "SELECT postbus.send('a', '1')", false},
		{"postbus_reader", "SELECT * FROM postbus.bus", false},
		{"postbus_node", "SELECT postbus.append('{0}', '{a}', '{\"\"}', '{1}', '{NULL}', '{\"\"}', '{0}', NULL)", true},
		{"postbus_node", "INSERT INTO postbus.bus (channel, type, json) VALUES ('a', '', '1')", false},
	} {
		exec(t, conn, "SET ROLE "+c.role)
		_, err := conn.Exec(t.Context(), c.sql)
		var refused *pgconn.PgError
		denied := errors.As(err, &refused) && refused.Code == "42501"
		if c.may != (err == nil) || !c.may && !denied {
			t.Errorf("%s: %s: %v", c.role, c.sql, err)
		}
		exec(t, conn, "RESET ROLE")
	}
}

// A caller's search_path must not reach the functions that run as the owner.
func TestCallersOperatorsAreNotUsed(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "CREATE SCHEMA evil", "GRANT USAGE ON SCHEMA evil TO PUBLIC",
		"CREATE FUNCTION evil.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$",
		"CREATE FUNCTION evil.trap(text, text, int) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
		"CREATE FUNCTION evil.trap(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$",
		"CREATE OPERATOR evil.= (FUNCTION = evil.trap, LEFTARG = text, RIGHTARG = text)",
		"CREATE OPERATOR evil.<> (FUNCTION = evil.trap, LEFTARG = text, RIGHTARG = text)",
		"CREATE OPERATOR evil.& (FUNCTION = evil.trap, LEFTARG = int, RIGHTARG = int)",
		"CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$",
		"SET ROLE postbus_sender", "SET search_path = evil, pg_catalog",
		"SELECT postbus.send('a', '1')", "SELECT postbus.send('a', '1')", "SELECT postbus.send('a', '1', key => 'k')",
		`SELECT postbus.send_messages('{"messages":[{"channel":"a","payload":1}]}')`,
		"SET synchronous_commit = off", "SELECT postbus.send('a', '1')", "RESET search_path", "RESET ROLE")
	if got := payloads(t, conn); got != "1 1 1 1 1" {
		t.Errorf("stored %q", got)
	}
}

func TestSendIsDurableWithoutSynchronousCommit(t *testing.T) {
	_, url := open(t)
	conn := connect(t, url)
	exec(t, conn, "SET synchronous_commit = off", "SELECT postbus.send('a', '1')", "BEGIN", "SELECT postbus.send('a', '2')")
	if got := value[string](t, conn, "SHOW synchronous_commit"); got != "off" {
		t.Errorf("synchronous_commit is %s before the commit", got)
	}
	exec(t, conn, "SET CONSTRAINTS ALL IMMEDIATE")
	if got := value[string](t, conn, "SHOW synchronous_commit"); got != "local" {
		t.Errorf("synchronous_commit is %s when the message is numbered, want local", got)
	}
	exec(t, conn, "COMMIT")
}
