package bus

import "strings"

// mostLevels bounds the nesting that nesting follows.
const mostLevels = 1 << 10

// nesting returns how deep the arrays and objects of a JSON text nest, and whether it is
// one, in one pass over it. Of what is no JSON text, or nests deeper than mostLevels, it
// only says so. It agrees with json.Valid and JSONDepth (FuzzNestingAgreesWithTheLibrary).
func nesting(s string) (deepest int, ok bool) {
	var objects [mostLevels / 64]uint64 // a bit for each open level: an object, else an array
	depth, i := 0, space(s, 0)
	for {
		// A value begins at i.
		if i = space(s, i); i == len(s) {
			return 0, false
		}
		switch c := s[i]; c {
		case '{', '[':
			if depth == mostLevels {
				return 0, false
			}
			word, bit := depth/64, uint64(1)<<(depth%64)
			objects[word] &^= bit
			if c == '{' {
				objects[word] |= bit
			}
			depth++
			deepest = max(deepest, depth)
			i = space(s, i+1)
			if i < len(s) && s[i] == c+2 { // the brackets are two apart
				break
			}
			if c == '{' {
				if i = name(s, i); i < 0 {
					return 0, false
				}
			}
			continue
		case '"':
			i = quoted(s, i)
		case 't':
			i = literal(s, i, "true")
		case 'f':
			i = literal(s, i, "false")
		case 'n':
			i = literal(s, i, "null")
		default:
			i = numeral(s, i)
		}
		if i < 0 {
			return 0, false
		}
		// A value has ended, or the brackets of an empty one are about to.
		for {
			i = space(s, i)
			if depth == 0 {
				return deepest, i == len(s)
			}
			if i == len(s) {
				return 0, false
			}
			inObject := objects[(depth-1)/64]>>((depth-1)%64)&1 == 1
			if c := s[i]; c == ',' {
				if i++; inObject {
					i = name(s, space(s, i))
				}
				break
			} else if inObject && c != '}' || !inObject && c != ']' {
				return 0, false
			}
			depth--
			i++
		}
		if i < 0 {
			return 0, false
		}
	}
}

// What follows returns the place behind a part that begins at i; -1 when there is none.

func space(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// name is a member's, with its colon.
func name(s string, i int) int {
	if i == len(s) || s[i] != '"' {
		return -1
	}
	if i = quoted(s, i); i < 0 {
		return -1
	}
	if i = space(s, i); i == len(s) || s[i] != ':' {
		return -1
	}
	return i + 1
}

func literal(s string, i int, word string) int {
	if !strings.HasPrefix(s[i:], word) {
		return -1
	}
	return i + len(word)
}

func quoted(s string, i int) int {
	for i++; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return -1
		case c == '\\':
			if i++; i == len(s) {
				return -1
			}
			switch s[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for end := i + 4; i < end; {
					if i++; i == len(s) || !isHex(s[i]) {
						return -1
					}
				}
			default:
				return -1
			}
		}
	}
	return -1
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func numeral(s string, i int) int {
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if i = digits(s, i); i < 0 {
		return -1
	}
	if i < len(s) && s[i] == '.' {
		if i = digits(s, i+1); i < 0 {
			return -1
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		return digits(s, i)
	}
	return i
}

// digits are one or more.
func digits(s string, i int) int {
	from := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == from {
		return -1
	}
	return i
}
