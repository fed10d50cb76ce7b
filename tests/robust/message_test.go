package robust

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/tests/robust/history"
)

// generator returns the source of one worker's decisions: the same for the same seed.
func generator(seed uint64, worker string) *rand.Rand {
	hash := fnv.New64a()
	hash.Write([]byte(worker))
	return rand.New(rand.NewPCG(seed, hash.Sum64()))
}

// chance is true with a probability of percent in a hundred.
func chance(random *rand.Rand, percent int) bool { return random.IntN(100) < percent }

// upTo is a duration below limit, mostly a short one.
func upTo(random *rand.Rand, limit time.Duration) time.Duration {
	part := random.Float64()
	return time.Duration(float64(limit) * part * part * part)
}

// A letter is a message with what only its sender knows.
type letter struct {
	history.Message
	json    string
	binary  []byte // nil: json
	headers map[string]string
}

// An author writes one sender's letters.
type author struct {
	name     string
	random   *rand.Rand
	channels []string
	habits   traffic
	letters  int
}

// poison marks a token that the database refuses, so that a batch must be split.
const poison = "poison-"

// letter writes the next one, large with a chance of so many in a hundred. Its tokens are hard ones: numbers and escapes that JSON
// libraries like to change.
func (a *author) letter(large int) letter {
	a.letters++
	l := letter{Message: history.Message{
		Token:   fmt.Sprintf("%s-%d", a.name, a.letters),
		Channel: a.channels[a.random.IntN(len(a.channels))],
	}}
	if chance(a.random, a.habits.keyed) {
		l.Key = "k-" + l.Token
		if chance(a.random, 30) { // one that others use, too, at about the same time
			l.Key = fmt.Sprintf("shared-%d", a.letters/4+a.random.IntN(3))
		}
	}
	if chance(a.random, a.habits.mortal) {
		l.TTL = time.Duration(1+a.random.IntN(3000)) * time.Millisecond
	}
	if chance(a.random, 30) {
		l.headers = map[string]string{"traceparent": l.Token, "empty": "", "umlaut": "ü\"\\"}
	}
	size := 1 << a.random.IntN(9)
	if chance(a.random, large) {
		size = a.habits.bulk/4 + a.random.IntN(a.habits.bulk*3/4)
	}
	pad := strings.Repeat("x", size)
	if chance(a.random, 15) {
		l.binary = []byte("\x00\xff" + l.Token + pad)
		l.Sum = history.Sum(true, l.binary, l.headers)
		return l
	}
	l.json = fmt.Sprintf(`{"token":%q,"n":[1.0,12345678901234567890,-0,1e400],"u":"\u00e9\/","u":null,"pad":%q}`, l.Token, pad)
	l.Sum = history.Sum(false, []byte(l.json), l.headers)
	return l
}

// write writes what one send holds: mostly one, sometimes many.
func (a *author) write() []letter {
	n, large := 1, a.habits.large
	switch {
	case chance(a.random, 5):
		n, large = 20+a.random.IntN(60), 0 // a send has a limit in bytes
	case chance(a.random, 40):
		n = 2 + a.random.IntN(4)
	}
	written := make([]letter, n)
	for i := range written {
		written[i] = a.letter(large)
	}
	return written
}

// poisoned writes a send with one letter that the database refuses.
func (a *author) poisoned() []letter {
	written := a.write()
	bad := &written[a.random.IntN(len(written))]
	bad.Token = poison + bad.Token
	return written
}

// messagesOf is what the history keeps of letters.
func messagesOf(letters []letter) []history.Message {
	kept := make([]history.Message, len(letters))
	for i, l := range letters {
		kept[i] = l.Message
	}
	return kept
}

func (l *letter) proto() *postbusv1.Message {
	m := &postbusv1.Message{Channel: l.Channel, Type: l.Token, Headers: l.headers, Key: l.Key}
	if l.TTL > 0 {
		m.Ttl = durationpb.New(l.TTL)
	}
	if l.binary != nil {
		m.Body = &postbusv1.Message_Binary{Binary: l.binary}
	} else {
		m.Body = &postbusv1.Message_Json{Json: l.json}
	}
	return m
}

// body returns the JSON of a send, of POST /v1/send and of postbus.send_messages.
func body(letters []letter) []byte {
	type message struct {
		Channel string            `json:"channel"`
		Type    string            `json:"type"`
		Payload json.RawMessage   `json:"payload,omitempty"`
		Binary  []byte            `json:"binary,omitempty"`
		Headers map[string]string `json:"headers,omitempty"`
		TTL     string            `json:"ttl,omitempty"`
		Key     string            `json:"key,omitempty"`
	}
	var request struct {
		Messages []message `json:"messages"`
	}
	for _, l := range letters {
		m := message{Channel: l.Channel, Type: l.Token, Binary: l.binary, Headers: l.headers, Key: l.Key}
		if l.binary == nil {
			m.Payload = json.RawMessage(l.json)
		}
		if l.TTL > 0 {
			m.TTL = fmt.Sprintf("%.3fs", l.TTL.Seconds())
		}
		request.Messages = append(request.Messages, m)
	}
	text, err := json.Marshal(request)
	if err != nil {
		panic(err) // strings and valid JSON
	}
	return text
}

// statement is the letter as an application writes it.
func (l *letter) statement() string {
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	var more strings.Builder
	fmt.Fprintf(&more, ", type => %s", quote(l.Token))
	if l.headers != nil {
		headers := make([]string, 0, len(l.headers))
		for name, value := range l.headers {
			headers = append(headers, quote(name), quote(value))
		}
		fmt.Fprintf(&more, ", headers => jsonb_build_object(%s)", strings.Join(headers, ", "))
	}
	if l.TTL > 0 {
		fmt.Fprintf(&more, ", ttl => '%d milliseconds'", l.TTL.Milliseconds())
	}
	if l.Key != "" {
		fmt.Fprintf(&more, ", key => %s", quote(l.Key))
	}
	if l.binary != nil {
		return fmt.Sprintf(`SELECT postbus.send_binary(%s, '\x%x'%s)`, quote(l.Channel), l.binary, more.String())
	}
	return fmt.Sprintf("SELECT postbus.send(%s, %s%s)", quote(l.Channel), quote(l.json), more.String())
}
