// Package jsonform writes and reads the pieces that every JSON side of Postbus has in
// common: strings, payloads whose tokens stay as they were sent, and bytes.
package jsonform

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// AppendPayload appends the tokens of a JSON text, without the white space between
// them.
func AppendPayload(dst []byte, text string) []byte {
	buf := bytes.NewBuffer(dst)
	if err := json.Compact(buf, []byte(text)); err != nil {
		// What was stored was valid. If the table was written past the bus all the
		// same, the line around it must still be JSON.
		return append(dst, "null"...)
	}
	return buf.Bytes()
}

// AppendBinary appends data as a JSON string of base64.
func AppendBinary(dst, data []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '"')
}

// AppendString appends s as a JSON string, without escapes for HTML.
func AppendString(dst []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into memory: it cannot fail
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
