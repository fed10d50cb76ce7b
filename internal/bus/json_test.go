package bus

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzNestingAgreesWithTheLibrary on what is JSON, and how deep it nests.
func FuzzNestingAgreesWithTheLibrary(f *testing.F) {
	for _, text := range []string{
		``, ` `, `null`, `nul`, `nulls`, `true`, `false`, `truefalse`, `0`, `-0`, `01`, `-`, `-1.5e+10`, `1.`, `.5`, `1e`, `1E-`, `1e5 `, `+1`,
		`""`, `"`, `"a\"b"`, `"\u00e9"`, `"\u00g9"`, `"\u12"`, `"\x"`, `"\`, "\"\n\"", "\"\xff\"", `"a" "b"`, `"\\"`, `"\\\"`,
		`[]`, `[ ]`, `[1,2]`, `[1,]`, `[,1]`, `[1 2]`, `[`, `]`, `[[]]`, `[}`, `{]`, `[[],{}]`,
		`{}`, `{ }`, `{"a":1}`, `{"a" : [ {"b":null} ] , "a":2}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{1:2}`, `{"a":1 "b":2}`, `{"a":1}}`, `{"a":{`, "{\"a\":1}\x00",
		"\t[\r\n1 ]\n", `[true,false,null,"x",{"y":[0.1e1]}]`,
		strings.Repeat("[", mostLevels) + strings.Repeat("]", mostLevels), strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		valid, deep := json.Valid([]byte(text)), JSONDepth([]byte(text))
		depth, ok := nesting(text)
		if want := valid && deep <= mostLevels; ok != want || ok && depth != deep {
			t.Errorf("%q: %d, %t; the library says %d, %t", text, depth, ok, deep, valid)
		}
	})
}

func BenchmarkNesting(b *testing.B) {
	text := `{"order": 12345, "text": "` + strings.Repeat("x", 170) + `"}`
	for b.Loop() {
		if _, ok := nesting(text); !ok {
			b.Fatal("refused")
		}
	}
}
