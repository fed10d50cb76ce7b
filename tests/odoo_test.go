package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/service/odoo"
)

// An odooAnswer is a JSON-RPC response.
type odooAnswer struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    struct {
			Name, Debug, Message string
			Arguments            []string
			Context              map[string]any
		}
	}
}

// odoo polls as Odoo's client does.
func (n *node) odoo(t testing.TB, params string) odooAnswer {
	t.Helper()
	return n.odooAt(t, "/longpolling/poll", params)
}

// odooAt calls one of Odoo's routes as its client does.
func (n *node) odooAt(t testing.TB, path, params string) odooAnswer {
	t.Helper()
	code, text := n.post(t, path, `{"jsonrpc":"2.0","method":"call","params":`+params+`,"id":514219367}`)
	var answer odooAnswer
	if err := json.Unmarshal([]byte(text), &answer); code != 200 || err != nil || string(answer.ID) != "514219367" || !strings.HasPrefix(text, `{"jsonrpc":"2.0",`) {
		t.Fatalf("%s %.200s: %d %.500s %v", path, params, code, text, err)
	}
	return answer
}

// raises wants the answer to be the error that Odoo's clients can read: its arguments are
// an array.
func (a odooAnswer) raises(t testing.TB, of string, code int, name, says string) {
	t.Helper()
	title := map[int]string{100: "Odoo Session Expired", 200: "Odoo Server Error"}[code]
	if e := a.Error; a.Result != nil || e == nil || e.Code != code || e.Message != title || e.Data.Name != name ||
		!strings.Contains(e.Data.Message, says) || len(e.Data.Arguments) != 1 || e.Data.Arguments[0] != e.Data.Message || e.Data.Context == nil {
		t.Errorf("%.80s: %s %+v, want %d %s that says %q", of, a.Result, e, code, name, says)
	}
}

// peek is the ids that a peek from last finds in channels, as Odoo's client writes them.
func (n *node) peek(t *testing.T, channels, last string) string {
	t.Helper()
	return idsIn(t, n.odoo(t, fmt.Sprintf(`{"channels":%s,"last":%s,"options":{"peek":true}}`, channels, last)))
}

// idsIn is the ids of a result that was not waited for.
func idsIn(t *testing.T, answer odooAnswer) string {
	t.Helper()
	var result struct {
		Notifications []struct{ ID int64 }
	}
	if answer.Error != nil {
		t.Fatalf("%+v", answer.Error)
	}
	must(t, json.Unmarshal(answer.Result, &result))
	ids := make([]string, len(result.Notifications))
	for i, n := range result.Notifications {
		ids[i] = fmt.Sprint(n.ID)
	}
	return strings.Join(ids, " ")
}

// odooVersions are nodes on one database, by the Odoo whose clients they serve.
func odooVersions(t *testing.T, versions ...int) map[int]*node {
	t.Helper()
	url := pgtest.Database(t)
	nodes := make(map[int]*node)
	for _, version := range versions {
		nodes[version] = startNode(t, url, nodeOptions{Odoo: odoo.Options{Version: version, Database: "shop"}})
	}
	return nodes
}

func TestOdooAnswersInTheShapeOfItsVersion(t *testing.T) {
	t.Parallel()
	nodes := odooVersions(t, 13, 14, 15, 18)
	bytes := &postbusv1.Message{Channel: "a", Type: "png", Body: &postbusv1.Message_Binary{Binary: []byte{255}}}
	tokens := &postbusv1.Message{Channel: "a", Type: "paid", Body: &postbusv1.Message_Json{Json: `{"order": 7, "order": 1e400}`}}
	nodes[15].send(t, tokens, bytes, message("broadcast", "all"))
	const (
		old = `{"id":1,"channel":"a","message":{"order":7,"order":1e400}},{"id":2,"channel":"a","message":"/w=="}`
		new = `{"id":1,"message":{"type":"paid","payload":{"order":7,"order":1e400}}},{"id":2,"message":{"type":"png","payload":"/w=="}},` +
			`{"id":3,"message":{"type":"","payload":"all"}}`
	)
	for version, n := range nodes {
		want, wantB, peeked := old, `{"id":3,"channel":"broadcast","message":"all"}`, `["a","zz"]`
		if version >= 15 {
			want, wantB, peeked = new, `{"id":3,"message":{"type":"","payload":"all"}}`, `[["shop","a"],["shop","zz"],["shop","broadcast"]]`
		}
		read(t, n.rpc, 3, "a", "broadcast") // they are there on this node, too
		for _, c := range []struct{ id, params, want string }{
			{`7`, `{"channels":["a","zz"],"last":0,"options":{"bus_inactivity":337}}`, `[` + want + `]`},
			{`"seven"`, `{"channels":["a"],"last":-1}`, `[` + want + `]`},
			{`{"a":[null]}`, `{"channels":["broadcast"],"last":2}`, `[` + wantB + `]`},
			{`null`, `{"channels":["a","zz"],"last":3,"options":{"peek":true}}`, `{"notifications":[],"channels":` + peeked + `}`},
			{``, `{"channels":["a","zz"],"last":0,"options":{"peek":1,"x":2},"context":{"lang":"nl"},"more":1}`, `{"notifications":[` + want + `],"channels":` + peeked + `}`},
		} {
			body, id := `{"jsonrpc":"2.0","method":"call","params":`+c.params+`,"id":`+c.id+`}`, c.id
			if c.id == "" {
				body, id = `{"params":`+c.params+`}`, "null"
			}
			for method, kind := range map[string]string{"POST": "application/json", "GET": "application/json-rpc", "PUT": "application/json; charset=utf-8"} {
				resp, answer := n.asks(t, asking{method, "/longpolling/poll", body, []string{"Content-Type", kind, "Origin", "https://shop.example"}})
				h := resp.Header
				if want := `{"jsonrpc":"2.0","id":` + id + `,"result":` + c.want + `}`; resp.StatusCode != 200 || answer != want || h.Get("Content-Type") != "application/json" ||
					h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != "POST" || h.Get("Set-Cookie") != "" {
					t.Errorf("%d, %s %s: %s %v\n got %s\nwant %s", version, method, body, resp.Status, h, answer, want)
				}
			}
		}
	}
	for channels, want := range map[string]string{`"ab"`: `"ab"`, `{"a": 1}`: `{"a":1}`, `["a","a"]`: `["a","a"]`} {
		if got := string(nodes[14].odoo(t, `{"channels":`+channels+`,"last":3,"options":{"peek":true}}`).Result); got != `{"notifications":[],"channels":`+want+`}` {
			t.Errorf("14, channels %s: %s", channels, got)
		}
	}
	if got := string(nodes[15].odoo(t, `{"channels":"ab","last":3,"options":{"peek":true}}`).Result); got != `{"notifications":[],"channels":[["shop","a"],["shop","b"],["shop","broadcast"]]}` {
		t.Errorf("15, a string: %s", got)
	}
}
