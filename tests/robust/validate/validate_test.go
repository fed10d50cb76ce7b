package validate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/postbus/postbus/tests/robust/history"
	"github.com/postbus/postbus/tests/robust/validate"
)

func at(seconds int) time.Duration { return time.Duration(seconds) * time.Second }

func note(id int64, channel, token string) history.Notification {
	return history.Notification{ID: id, Channel: channel, Token: token, Sum: "sum of " + token}
}

func sent(channel, token, key string) history.Message {
	return history.Message{Channel: channel, Token: token, Key: key, Sum: "sum of " + token}
}

// sound is a small history that keeps every promise: two channels, a retry with a key, a
// transaction with a savepoint that is rolled back, a refused send, an unknown one that is
// stored and one that is not, a message that expires, one that retention took, and
// readers on two nodes.
func sound() *history.History {
	return &history.History{
		Chains: []history.Chain{{Name: "both", Channels: []string{"a", "b"}}, {Name: "late", Channels: []string{"a"}}},
		Sends: []history.Send{
			{Sender: "rpc", Way: "grpc", Call: at(1), Return: at(2), Outcome: history.Stored,
				Messages: []history.Message{sent("a", "trimmed", ""), sent("a", "first", "")}, Results: []history.Result{{ID: 1}, {ID: 2}}},
			{Sender: "rpc", Way: "grpc", Call: at(3), Return: at(4), Outcome: history.Unknown, Messages: []history.Message{sent("b", "keyed", "k")}},
			{Sender: "rpc", Way: "json", Call: at(5), Return: at(6), Outcome: history.Stored, Messages: []history.Message{sent("b", "keyed", "k")},
				Results: []history.Result{{ID: 3, Duplicate: true}}},
			{Sender: "sql", Way: "sql commit", Call: at(7), Return: at(8), Outcome: history.Stored,
				Messages: []history.Message{sent("a", "tx1", ""), {Channel: "a", Token: "void", Sum: "sum of void", Void: true}, sent("b", "tx2", "")}},
			{Sender: "rpc", Way: "grpc", Call: at(9), Return: at(10), Outcome: history.Nothing, Messages: []history.Message{sent("a", "refused", "")}},
			{Sender: "rpc", Way: "grpc", Call: at(9), Return: at(10), Outcome: history.Unknown, Messages: []history.Message{sent("a", "lost", "")}},
			{Sender: "sql", Way: "sql plain", Call: at(11), Return: at(12), Outcome: history.Stored, Messages: []history.Message{sent("a", "mortal", "")}},
		},
		Responses: []history.Response{
			{Chain: "both", Leg: 1, Opens: true, Way: "grpc stream", Node: "a", After: 0, Call: at(0), Return: at(2),
				Notifications: []history.Notification{note(1, "a", "trimmed"), note(2, "a", "first")}, Last: 2},
			{Chain: "both", Leg: 1, Way: "grpc stream", Node: "a", After: 2, Call: at(0), Return: at(4), Last: 2},
			{Chain: "both", Leg: 2, Opens: true, Way: "json poll", Node: "b", After: 2, Call: at(6), Return: at(9),
				Notifications: []history.Notification{note(3, "b", "keyed"), note(5, "a", "tx1"), note(6, "b", "tx2")}, Last: 6},
			{Chain: "both", Leg: 3, Opens: true, Way: "sql poll", Node: "b", After: 6, Call: at(20), Return: at(20), Last: 8},
			{Chain: "late", Leg: 1, Opens: true, Way: "grpc poll", Node: "a", After: history.Absent, Call: at(0), Return: at(0), Last: 0},
			{Chain: "late", Leg: 2, Opens: true, Way: "json stream", Node: "b", After: 0, Call: at(14), Return: at(14),
				Notifications: []history.Notification{note(2, "a", "first"), note(5, "a", "tx1"), note(8, "a", "mortal")}, Last: 8},
		},
		Truth: history.Truth{TrimmedTo: 1, At: at(30), Rows: []history.Row{
			{Notification: note(1, "a", "trimmed"), Transaction: "10"},
			{Notification: note(2, "a", "first"), Transaction: "10", Present: true},
			{Notification: note(3, "b", "keyed"), Transaction: "11", Present: true},
			{Notification: note(5, "a", "tx1"), Transaction: "12", Present: true},
			{Notification: note(6, "b", "tx2"), Transaction: "12", Present: true},
			{Notification: note(8, "a", "mortal"), Transaction: "13", Expires: at(15)},
		}},
	}
}

// withGap lets the late reader come with a cursor and be told what retention took.
func withGap(h *history.History) *history.Gap {
	h.Responses[4].Last, h.Responses[4].Return = 1, at(2)
	r := &h.Responses[5]
	r.After, r.Gap = 1, &history.Gap{Reason: "REASON_TRIMMED", After: 1, Until: 2}
	r.Notifications = r.Notifications[1:]
	h.Truth.TrimmedTo, h.Truth.Rows[1].Present = 2, false
	return r.Gap
}

func TestSoundHistoriesKeepEveryPromise(t *testing.T) {
	told := sound()
	withGap(told)
	oldest := sound() // the reader asks for the oldest when retention has moved
	oldest.Responses[5].Notifications = oldest.Responses[5].Notifications[1:]
	oldest.Truth.TrimmedTo, oldest.Truth.Rows[1].Present = 2, false
	opened := sound() // it is told where it begins, the oldest, before it is given anything
	opened.Responses = slices.Insert(opened.Responses, 5, opened.Responses[4])
	opened.Responses[5].Leg, opened.Responses[5].After = 2, 0
	opened.Responses[6].Opens, opened.Responses[6].Notifications = false, oldest.Responses[5].Notifications
	opened.Truth.TrimmedTo, opened.Truth.Rows[1].Present = 2, false
	expired := sound() // a reader may come too late for a message with a ttl, not too early
	expired.Responses[5].Return = at(16)
	expired.Responses[5].Notifications = expired.Responses[5].Notifications[:2]
	for name, h := range map[string]*history.History{"sound": sound(), "told": told, "oldest": oldest, "opened": opened, "expired": expired} {
		for _, promise := range validate.Promises() {
			if broken := promise.Broken(h); len(broken) > 0 {
				t.Errorf("%s: %s: %q", name, promise.Name, broken)
			}
		}
	}
}

func TestBrokenHistoriesAreFound(t *testing.T) {
	for _, test := range []struct {
		promise, fault string
		breaks         func(*history.History)
	}{
		{"ordered", "ids descend in a response", func(h *history.History) {
			n := h.Responses[2].Notifications
			n[0], n[1] = n[1], n[0]
		}},
		{"ordered", "a leg begins below its cursor", func(h *history.History) {
			h.Responses[3].Notifications = []history.Notification{note(5, "a", "tx1")}
		}},
		{"ordered", "a later send has a lower id than one that was answered", func(h *history.History) { h.Sends[0].Results[1].ID = 7 }},
		{"ordered", "a later send has an id that a reader had passed", func(h *history.History) { h.Responses[1].Last = 3 }},
		{"unique", "an id comes twice", func(h *history.History) {
			h.Responses[1].Notifications = []history.Notification{note(2, "a", "first")}
		}},
		{"unique", "a message is stored twice", func(h *history.History) { h.Truth.Rows[4].Token = "tx1" }},
		{"reliable", "a chain is never given a message", func(h *history.History) {
			h.Responses[2].Notifications = h.Responses[2].Notifications[:2]
		}},
		{"reliable", "a chain does not come to the head", func(h *history.History) { h.Responses[3].Last = 7 }},
		{"reliable", "a chain is never answered", func(h *history.History) { h.Chains = append(h.Chains, history.Chain{Name: "deaf"}) }},
		{"reliable", "a message is hidden before it expires", func(h *history.History) { h.Responses[3].Return = at(14) }},
		{"reliable", "more is gone than the gap says", func(h *history.History) {
			withGap(h)
			h.Responses[5].Notifications = h.Responses[5].Notifications[1:]
		}},
		{"genuine", "a message that nobody sent", func(h *history.History) { h.Truth.Rows[5].Token = "who" }},
		{"genuine", "a message whose sender was told that it is not stored", func(h *history.History) {
			h.Truth.Rows = append(h.Truth.Rows, history.Row{Notification: note(9, "a", "refused"), Present: true})
		}},
		{"genuine", "a message of a savepoint that was rolled back", func(h *history.History) {
			h.Truth.Rows = append(h.Truth.Rows, history.Row{Notification: note(9, "a", "void"), Present: true})
		}},
		{"genuine", "a body that is stored otherwise", func(h *history.History) { h.Truth.Rows[2].Sum = "another" }},
		{"genuine", "a body that is delivered otherwise", func(h *history.History) { h.Responses[2].Notifications[0].Sum = "another" }},
		{"genuine", "a channel that is delivered otherwise", func(h *history.History) { h.Responses[2].Notifications[0].Channel = "a" }},
		{"genuine", "a delivery that never committed", func(h *history.History) {
			h.Responses[1].Notifications = []history.Notification{note(4, "a", "lost")}
		}},
		{"atomic", "half of a transaction is stored", func(h *history.History) { h.Truth.Rows = slices.Delete(h.Truth.Rows, 4, 5) }},
		{"atomic", "half of a send of unknown outcome is stored", func(h *history.History) {
			h.Sends[5].Messages = append(h.Sends[5].Messages, sent("a", "half", ""))
			h.Truth.Rows = append(h.Truth.Rows, history.Row{Notification: note(9, "a", "half")})
		}},
		{"atomic", "ids descend in a transaction", func(h *history.History) {
			m := h.Sends[3].Messages
			m[0], m[2] = m[2], m[0]
		}},
		{"atomic", "a send is committed by two transactions", func(h *history.History) { h.Truth.Rows[1].Transaction = "14" }},
		{"resumable", "a leg begins above its cursor", func(h *history.History) {
			h.Responses[2].Notifications = h.Responses[2].Notifications[1:]
		}},
		{"resumable", "a leg begins below its cursor", func(h *history.History) {
			h.Responses[3].Notifications = []history.Notification{note(6, "b", "tx2")}
		}},
		{"bookmarkable", "a heartbeat's last passes over a message", func(h *history.History) { h.Responses[1].Last = 3 }},
		{"bookmarkable", "last is below what came with it", func(h *history.History) { h.Responses[2].Last = 5 }},
		{"bookmarkable", "last goes back", func(h *history.History) { h.Responses[3].Last = 5 }},
		{"durable", "an answered message is not stored", func(h *history.History) { h.Truth.Rows = slices.Delete(h.Truth.Rows, 1, 2) }},
		{"durable", "a committed transaction is not stored", func(h *history.History) { h.Truth.Rows = slices.Delete(h.Truth.Rows, 3, 5) }},
		{"durable", "an answer tells another id", func(h *history.History) { h.Sends[0].Results[0].ID = 2 }},
		{"durable", "a row has gone", func(h *history.History) { h.Truth.Rows[3].Present = false }},
		{"durable", "a row has gone before it expired", func(h *history.History) { h.Truth.At = at(14) }},
		{"idempotent", "a key is stored twice", func(h *history.History) {
			h.Sends[6].Messages[0].Channel, h.Sends[6].Messages[0].Key = "b", "k"
		}},
		{"idempotent", "a key is answered with two ids", func(h *history.History) {
			h.Sends[1].Outcome, h.Sends[1].Results = history.Stored, []history.Result{{ID: 5}}
		}},
		{"idempotent", "a key is new twice", func(h *history.History) {
			h.Sends[1].Outcome, h.Sends[1].Results, h.Sends[2].Results[0].Duplicate = history.Stored, []history.Result{{ID: 3}}, false
		}},
		{"idempotent", "a message without a key is a duplicate", func(h *history.History) { h.Sends[0].Results[0].Duplicate = true }},
		{"told", "another history", func(h *history.History) { withGap(h).Reason = "REASON_HISTORY" }},
		{"told", "a cursor that is called ahead", func(h *history.History) { withGap(h).Reason = "REASON_AHEAD" }},
		{"told", "a gap beyond what was trimmed", func(h *history.History) { withGap(h).Until = 3 }},
		{"told", "a gap of nothing", func(h *history.History) { withGap(h).After = 2 }},
		{"told", "a gap from below the cursor", func(h *history.History) { withGap(h).After = 0 }},
		{"told", "a gap for a reader of the oldest", func(h *history.History) { withGap(h); h.Responses[5].After = 0 }},
	} {
		t.Run(test.promise+"/"+test.fault, func(t *testing.T) {
			h := sound()
			test.breaks(h)
			promises := validate.Promises()
			i := slices.IndexFunc(promises, func(p validate.Promise) bool { return p.Name == test.promise })
			if broken := promises[i].Broken(h); len(broken) == 0 {
				t.Error("nothing was found")
			} else {
				t.Log(broken)
			}
		})
	}
}
