package jsonform

// HasLoneSurrogate reports whether the strings in a JSON text have an escape of half a
// surrogate pair. Such a string has no UTF-8, and Go would replace it in silence.
func HasLoneSurrogate(text []byte) bool {
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		switch half := hex4(text[i+1:]); {
		case half >= 0xdc00 && half <= 0xdfff:
			return true
		case half >= 0xd800 && half <= 0xdbff:
			rest := text[min(i+5, len(text)):]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
				return true
			}
			if low := hex4(rest[2:]); low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 6
		}
		i += 4
	}
	return false
}

// hex4 returns the number of four hexadecimal digits, -1 if text does not begin so.
func hex4(text []byte) int {
	if len(text) < 4 {
		return -1
	}
	n := 0
	for _, c := range text[:4] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | int(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return n
}
