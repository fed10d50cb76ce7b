// Package history is what a robustness run writes down: every send and what became of
// it, every response that a reader was given, every fault, and at the end what the
// database really holds. It is plain data, so that package validate can judge it.
package history

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"
)

// An Outcome is what a sender knows of its send.
type Outcome string

// What a sender can know.
const (
	Stored  Outcome = "stored"  // it was told so
	Nothing Outcome = "nothing" // it was told that certainly nothing is stored
	Unknown Outcome = "unknown" // the answer did not come, or said so
)

// A Message is what one sender sent under one token. Its type carries the token, so
// that a notification says which message it is.
type Message struct {
	Token   string        `json:"token"`
	Channel string        `json:"channel"`
	Sum     string        `json:"sum"` // of body and headers
	Key     string        `json:"key,omitempty"`
	TTL     time.Duration `json:"ttl,omitempty"`
	Void    bool          `json:"void,omitempty"` // rolled back with its savepoint
}

// A Send is one request or one SQL transaction. A retry is a Send of its own with the
// same messages. Times count from the start of the run. Call is when it began to be
// able to take ids: of a transaction its COMMIT, PREPARE or SET CONSTRAINTS.
type Send struct {
	Sender   string        `json:"sender"`
	Way      string        `json:"way"`
	Node     string        `json:"node,omitempty"`
	Call     time.Duration `json:"call"`
	Return   time.Duration `json:"return"`
	Messages []Message     `json:"messages"`
	Outcome  Outcome       `json:"outcome"`
	Results  []Result      `json:"results,omitempty"` // of Stored; SQL has none
	Fault    string        `json:"fault,omitempty"`
}

// A Result is what an RPC answered for one message.
type Result struct {
	ID        int64 `json:"id"`
	Duplicate bool  `json:"duplicate,omitempty"`
}

// A Chain is one reader that goes on, leg after leg, with the last it was given.
type Chain struct {
	Name     string   `json:"name"`
	Channels []string `json:"channels"`
}

// Reads reports whether the chain reads the channel.
func (c *Chain) Reads(channel string) bool { return slices.Contains(c.Channels, channel) }

// Absent is the After of a reader that names no cursor.
const Absent int64 = -1

// A Response is one answer to one leg of a chain: of a poll the only one.
type Response struct {
	Chain         string         `json:"chain"`
	Leg           int            `json:"leg"`
	Opens         bool           `json:"opens,omitempty"` // the first of its leg
	Way           string         `json:"way"`
	Node          string         `json:"node,omitempty"`
	After         int64          `json:"after"` // what the reader held; Absent
	Call          time.Duration  `json:"call"`  // of the leg
	Return        time.Duration  `json:"return"`
	Notifications []Notification `json:"notifications"`
	Last          int64          `json:"last"`
	Gap           *Gap           `json:"gap,omitempty"`
}

// A Notification is what a reader was given.
type Notification struct {
	ID      int64  `json:"id"`
	Channel string `json:"channel"`
	Token   string `json:"token"`
	Sum     string `json:"sum"`
}

// A Gap is a loss that a reader was told of.
type Gap struct {
	Reason string `json:"reason"`
	After  int64  `json:"after"`
	Until  int64  `json:"until"`
}

// A Fault is what was done to the bus, for whoever reads a failed run.
type Fault struct {
	At   time.Duration `json:"at"`
	What string        `json:"what"`
}

// A Row is a message that really committed, whether or not it is still there.
type Row struct {
	Notification
	Transaction string        `json:"transaction"`
	Expires     time.Duration `json:"expires,omitempty"` // 0: never
	Present     bool          `json:"present,omitempty"`
}

// A Truth is what the database held at the end.
type Truth struct {
	Rows      []Row         `json:"rows"` // ids ascending
	TrimmedTo int64         `json:"trimmed_to"`
	At        time.Duration `json:"at"`
}

// Head returns the highest id that was committed.
func (t *Truth) Head() int64 {
	if len(t.Rows) == 0 {
		return 0
	}
	return t.Rows[len(t.Rows)-1].ID
}

// A History is one run.
type History struct {
	Chains    []Chain    `json:"chains"`
	Sends     []Send     `json:"sends"`
	Responses []Response `json:"responses"` // of each chain in its order
	Faults    []Fault    `json:"faults"`
	Truth     Truth      `json:"truth"`
}

// Of returns a chain's responses in their order.
func (h *History) Of(chain string) []Response {
	var found []Response
	for _, r := range h.Responses {
		if r.Chain == chain {
			found = append(found, r)
		}
	}
	return found
}

// Rows returns the truth by token; a token that was stored twice has two.
func (h *History) Rows() map[string][]Row {
	rows := make(map[string][]Row, len(h.Truth.Rows))
	for _, r := range h.Truth.Rows {
		rows[r.Token] = append(rows[r.Token], r)
	}
	return rows
}

// Sum is a short digest of a body and its headers.
func Sum(binary bool, body []byte, headers map[string]string) string {
	sum := sha256.New()
	sum.Write([]byte(cmp.Or(map[bool]string{true: "binary\x00"}[binary], "json\x00")))
	sum.Write(body)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		sum.Write([]byte("\x00" + name + "\x00" + headers[name]))
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
