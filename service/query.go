package service

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

// queryJSON returns the JSON form of a query, so that a GET and a POST are read, and
// refused, by the same code. channels may be repeated; the others may not. Names that
// are not among names are refused; those that begin with "_" pass.
func queryJSON(query string, names []string) ([]byte, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, bus.Invalid(bus.InvalidField, "query", "%v", err)
	}
	b := append(make([]byte, 0, len(query)+64), '{')
	member := func(name string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = jsonform.AppendString(b, name)
		b = append(b, ':')
	}
	for name, vs := range values {
		switch {
		case !utf8.ValidString(name) || slices.ContainsFunc(vs, func(v string) bool { return !utf8.ValidString(v) }):
			return nil, bus.Invalid(bus.InvalidField, strings.ToValidUTF8(shown(name), "\uFFFD"), "not valid UTF-8")
		case strings.HasPrefix(name, "_"):
		case !slices.Contains(names, name):
			return nil, bus.Invalid(bus.UnknownField, shown(name), "not known to this server")
		case name == "channels":
			member(name)
			b = append(b, '[')
			for i, v := range vs {
				if i > 0 {
					b = append(b, ',')
				}
				b = jsonform.AppendString(b, v)
			}
			b = append(b, ']')
		case len(vs) > 1:
			return nil, bus.Invalid(bus.InvalidField, name, "named %d times", len(vs))
		case name == "max":
			if _, err := strconv.ParseInt(vs[0], 10, 32); err != nil {
				return nil, bus.Invalid(bus.InvalidField, name, "%q, must be a whole number", clip(vs[0]))
			}
			member(name)
			b = fmt.Append(b, strings.TrimPrefix(vs[0], "+"))
		default:
			member(name)
			b = jsonform.AppendString(b, vs[0])
		}
	}
	return append(b, '}'), nil
}
