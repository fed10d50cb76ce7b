package service_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// A schemas checks answers against openapi.json: types, required members, and members
// that the description does not have.
type schemas struct{ root map[string]any }

func loadSchemas(t *testing.T) schemas {
	t.Helper()
	data, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schemas
	if err := json.Unmarshal(data, &s.root); err != nil {
		t.Fatal(err)
	}
	return s
}

// check fails the test unless answer is what the schema of that name describes.
func (s schemas) check(t *testing.T, name string, answer []byte) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(answer))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v in %s", name, err, answer)
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if fault := s.fault(name, ref, v); fault != "" {
		t.Fatalf("%s: %s in %s", name, fault, answer)
	}
}

func (s schemas) resolve(schema map[string]any) map[string]any {
	for {
		ref, ok := schema["$ref"].(string)
		if !ok {
			return schema
		}
		var at any = s.root
		for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			at = at.(map[string]any)[part]
		}
		schema = at.(map[string]any)
	}
}

func (s schemas) fault(path string, schema map[string]any, v any) string {
	schema = s.resolve(schema)
	if kinds := schema["type"]; kinds != nil && !slices.Contains(strings.Fields(strings.Trim(fmt.Sprint(kinds), "[]")), kind(v)) {
		return fmt.Sprintf("%s is %s, not %v", path, kind(v), kinds)
	}
	if array, ok := v.([]any); ok && schema["items"] != nil {
		for i, element := range array {
			if f := s.fault(fmt.Sprintf("%s[%d]", path, i), schema["items"].(map[string]any), element); f != "" {
				return f
			}
		}
	}
	object, ok := v.(map[string]any)
	if !ok || schema["type"] == nil {
		return ""
	}
	has := func(need any) bool {
		for _, name := range need.([]any) {
			if _, ok := object[name.(string)]; !ok {
				return false
			}
		}
		return true
	}
	if need, ok := schema["required"]; ok && !has(need) {
		return fmt.Sprintf("%s lacks one of %v", path, need)
	}
	if one, ok := schema["oneOf"].([]any); ok {
		matching := 0
		for _, alternative := range one {
			if has(alternative.(map[string]any)["required"]) {
				matching++
			}
		}
		if matching != 1 {
			return fmt.Sprintf("%s matches %d of %v", path, matching, one)
		}
	}
	members, _ := schema["properties"].(map[string]any)
	for name, value := range object {
		member, ok := members[name].(map[string]any)
		if !ok {
			if member, ok = schema["additionalProperties"].(map[string]any); !ok {
				return fmt.Sprintf("%s.%s is not described", path, name)
			}
		}
		if f := s.fault(path+"."+name, member, value); f != "" {
			return f
		}
	}
	return ""
}

func kind(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case bool:
		return "boolean"
	case nil:
		return "null"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
	}
	return "integer"
}
