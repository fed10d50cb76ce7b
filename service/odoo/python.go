package odoo

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/postbus/postbus/internal/bus"
)

// An exception is what Odoo's own server raises in this case, by its Python name.
type exception struct{ kind, message string }

// The kinds that are answered with another code than 200.
const (
	kindSessionExpired = "odoo.http.SessionExpiredException"
	kindNotFound       = "werkzeug.exceptions.NotFound"
)

func raise(kind, format string, args ...any) *exception {
	return &exception{"builtins." + kind, fmt.Sprintf(format, args...)}
}

func (e *exception) Error() string { return e.kind + ": " + e.message }

// Unwrap returns it in the words of the bus: a request that retrying cannot cure.
func (e *exception) Unwrap() error {
	reason := bus.InvalidField
	switch e.kind {
	case kindSessionExpired:
		reason = "FORBIDDEN"
	case kindNotFound:
		reason = "NOT_FOUND"
	}
	return bus.Invalid(reason, "", "%s", e.message)
}

// pythonType returns Python's name for the type of a JSON value.
func pythonType(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "dict"
	case '[':
		return "list"
	case '"':
		return "str"
	case 't', 'f':
		return "bool"
	case 'n':
		return "NoneType"
	}
	if strings.ContainsAny(string(raw), ".eE") {
		return "float"
	}
	return "int"
}

// pythonTrue reports whether Python takes a JSON value as true.
func pythonTrue(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return true // a number beyond float64
	}
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }
