package odoo

import (
	"encoding/json"
	"fmt"
	"testing"
)

// Odoo 15 was measured.
func TestParametersAreReadAsPythonReadsThem(t *testing.T) {
	now, recent := "now", "recent"
	for _, c := range []struct{ params, want string }{
		{`{"channels":["a","b"],"last":42,"options":{"bus_inactivity":337}}`, `[a b] 42 false`},
		{`{"channels":[],"last":0,"context":{}}`, `[] ` + recent + ` false`},
		{`{"channels":"abc","last":false,"options":null}`, `[a b c] ` + recent + ` false`},
		{`{"channels":{"a":1},"last":null,"options":{"peek":true}}`, `[a] ` + now + ` true`},
		{`{"channels":["a"],"last":"0","options":{"peek":0}}`, `[a] 0 false`},
		{`{"channels":["a"],"last":-1,"options":{"peek":[1]}}`, `[a] 0 true`},
		{`{"channels":["a"],"last":1099511627776,"options":{"peek":""}}`, `[a] 1099511627776 false`},
		{`{"channels":["a"],"last":5.0}`, `[a] 5 false`},
		{`{"channels":["a",1],"last":0}`, `builtins.Exception: bus.Bus only string channels are allowed.`},
		{`{"channels":[null],"last":0}`, `builtins.Exception: bus.Bus only string channels are allowed.`},
		{`{"channels":null,"last":0}`, `builtins.TypeError: 'NoneType' object is not iterable`},
		{`{"channels":1.5,"last":0}`, `builtins.TypeError: 'float' object is not iterable`},
		{`{"last":0}`, `builtins.TypeError: poll() missing 1 required positional argument: 'channels'`},
		{`{"channels":["a"]}`, `builtins.TypeError: poll() missing 1 required positional argument: 'last'`},
		{`{"channels":["a"],"last":0.5}`, `builtins.Exception: invalid input syntax for type integer: "0.5"`},
		{`{"channels":["a"],"last":"x"}`, `builtins.Exception: invalid input syntax for type integer: "x"`},
		{`{"channels":["a"],"last":1e30}`, `builtins.Exception: integer out of range`},
		{`{"channels":["a"],"last":0,"options":[1]}`, `builtins.AttributeError: 'list' object has no attribute 'get'`},
		{`{"channels":["a"],"last":0,"options":"peek"}`, `builtins.AttributeError: 'str' object has no attribute 'get'`},
	} {
		var given params
		if err := json.Unmarshal([]byte(c.params), &given); err != nil {
			t.Fatal(err)
		}
		p, err := readPoll(given)
		after := now
		if p.recent {
			after = recent
		} else if p.after != nil {
			after = fmt.Sprint(*p.after)
		}
		got := fmt.Sprint(p.channels, " ", after, " ", p.peek)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.params, got, c.want)
		}
	}
}
