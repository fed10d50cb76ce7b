package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// call makes the RPC that a request is for.
func (n *node) call(ctx context.Context, request proto.Message) error {
	var err error
	switch request := request.(type) {
	case *postbusv1.SendRequest:
		_, err = n.rpc.Send(ctx, request)
	case *postbusv1.PollRequest:
		_, err = n.rpc.Poll(ctx, request)
	case *postbusv1.SubscribeRequest:
		stream, opened := n.rpc.Subscribe(ctx, request)
		if err = opened; err == nil {
			_, err = stream.Recv()
		}
	}
	return err
}

func path(request proto.Message) string {
	switch request.(type) {
	case *postbusv1.SendRequest:
		return "/v1/send"
	case *postbusv1.PollRequest:
		return "/v1/poll"
	}
	return "/v1/subscribe"
}

// A violation is what a refusal says, by either side.
type violation struct{ reason, field, description string }

// violationOf checks the form of a gRPC refusal.
func violationOf(t *testing.T, err error) violation {
	t.Helper()
	s := status.Convert(err)
	v := violation{reason: reason(err)}
	for _, detail := range s.Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && len(bad.FieldViolations) == 1 {
			v.field, v.description = bad.FieldViolations[0].Field, bad.FieldViolations[0].Description
		}
	}
	if s.Code() != codes.InvalidArgument || s.Message() != v.field+": "+v.description {
		t.Errorf("%v: %q, of %+v", s.Code(), s.Message(), v)
	}
	return v
}

// violationIn checks the form of a JSON refusal.
func violationIn(t *testing.T, code int, answer string) violation {
	t.Helper()
	var refused struct {
		Error struct {
			Code                    int
			Status, Reason, Message string
			Details                 []struct {
				Type            string `json:"@type"`
				Domain, Reason  string
				FieldViolations []struct{ Field, Description string } `json:"field_violations"`
			}
		}
	}
	if err := json.Unmarshal([]byte(answer), &refused); err != nil {
		t.Fatalf("%d %.200s: %v", code, answer, err)
	}
	e := refused.Error
	v := violation{reason: e.Reason}
	if len(e.Details) == 2 && len(e.Details[1].FieldViolations) == 1 {
		v.field, v.description = e.Details[1].FieldViolations[0].Field, e.Details[1].FieldViolations[0].Description
	}
	if code != 400 || e.Code != 3 || e.Status != "INVALID_ARGUMENT" || e.Message != v.field+": "+v.description || len(e.Details) == 0 ||
		e.Details[0].Type != "type.googleapis.com/google.rpc.ErrorInfo" || e.Details[0].Domain != "postbus" || e.Details[0].Reason != e.Reason {
		t.Errorf("%d %.500s", code, answer)
	}
	return v
}

func TestEachFieldIsRefusedByNameOverGRPCAndJSON(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, 0, "other")
	long := strings.Repeat("é", 128)
	headers := func(count, size int) map[string]string {
		h := make(map[string]string)
		for i := range count {
			h[fmt.Sprintf("h%03d", i)] = strings.Repeat("x", size)
		}
		return h
	}
	bad := func(m *postbusv1.Message) proto.Message { return sendRequest(message("a", "good"), m) }
	json := func(text string) *postbusv1.Message {
		return &postbusv1.Message{Channel: "a", Body: &postbusv1.Message_Json{Json: text}}
	}
	negative, zero, toomany := int64(-1), int32(0), int32(1001)
	seconds := func(s float64) *durationpb.Duration { return durationpb.New(time.Duration(s * float64(time.Second))) }
	for _, c := range []struct {
		request proto.Message
		body    string // the same in JSON; "": has no form there
		want    violation
	}{
		{sendRequest(), `{}`, violation{"INVALID_FIELD", "messages", "none, at least 1"}},
		{bad(&postbusv1.Message{}), `{"messages":[{"channel":"a"},{}]}`, violation{"INVALID_FIELD", "messages[1].channel", "empty, 1 to 255 bytes"}},
		{bad(&postbusv1.Message{Channel: long}), `{"messages":[{"channel":"a"},{"channel":"` + long + `"}]}`, violation{"INVALID_FIELD", "messages[1].channel", "256 bytes, at most 255"}},
		{bad(&postbusv1.Message{Channel: "a\nb"}), `{"messages":[{"channel":"a"},{"channel":"a\nb"}]}`, violation{"INVALID_FIELD", "messages[1].channel", "control character U+000A at byte 1, none allowed"}},
		{bad(&postbusv1.Message{Channel: "a\u2003"}), `{"messages":[{"channel":"a"},{"channel":"a\u2003"}]}`, violation{"INVALID_FIELD", "messages[1].channel", "white space at an end, none allowed"}},
		{bad(&postbusv1.Message{Channel: "postbus:x"}), `{"messages":[{"channel":"a"},{"channel":"postbus:x"}]}`, violation{"INVALID_FIELD", "messages[1].channel", `begins with "postbus:", which is reserved`}},
		{bad(&postbusv1.Message{Channel: "a", Type: long}), `{"messages":[{"channel":"a"},{"channel":"a","type":"` + long + `"}]}`, violation{"INVALID_FIELD", "messages[1].type", "256 bytes, at most 255"}},
		{bad(&postbusv1.Message{Channel: "a", Key: "\x00"}), `{"messages":[{"channel":"a"},{"channel":"a","key":"\u0000"}]}`, violation{"INVALID_FIELD", "messages[1].key", "control character U+0000 at byte 0, none allowed"}},
		{bad(json("")), "", violation{"INVALID_FIELD", "messages[1].json", "not JSON: unexpected end of JSON input at byte 0"}},
		{bad(json("paid")), "", violation{"INVALID_FIELD", "messages[1].json", "not JSON: invalid character 'p' looking for beginning of value at byte 1"}},
		{bad(json("{} {}")), "", violation{"INVALID_FIELD", "messages[1].json", "not JSON: invalid character '{' after top-level value at byte 4"}},
		{bad(&postbusv1.Message{Channel: "a", Headers: headers(65, 0)}), "", violation{"INVALID_FIELD", "messages[1].headers", "65 entries, at most 64"}},
		{bad(&postbusv1.Message{Channel: "a", Headers: headers(1, 4093)}), `{"messages":[{"channel":"a"},{"channel":"a","headers":{"h000":"` + strings.Repeat("x", 4093) + `"}}]}`, violation{"INVALID_FIELD", "messages[1].headers", "4097 bytes in all, at most 4096"}},
		{bad(&postbusv1.Message{Channel: "a", Headers: map[string]string{"postbus-x": "1"}}), `{"messages":[{"channel":"a"},{"channel":"a","headers":{"postbus-x":"1"}}]}`, violation{"INVALID_FIELD", `messages[1].headers["postbus-x"]`, `name begins with "postbus-", which is reserved`}},
		{bad(&postbusv1.Message{Channel: "a", Headers: map[string]string{"": "1"}}), `{"messages":[{"channel":"a"},{"channel":"a","headers":{"":"1"}}]}`, violation{"INVALID_FIELD", `messages[1].headers[""]`, "empty name, 1 to 255 bytes"}},
		{bad(&postbusv1.Message{Channel: "a", Headers: map[string]string{"h": "\x00"}}), `{"messages":[{"channel":"a"},{"channel":"a","headers":{"h":"\u0000"}}]}`, violation{"INVALID_FIELD", `messages[1].headers["h"]`, "value holds a NUL, none allowed"}},
		{bad(&postbusv1.Message{Channel: "a", Ttl: seconds(0)}), `{"messages":[{"channel":"a"},{"channel":"a","ttl":"0s"}]}`, violation{"INVALID_FIELD", "messages[1].ttl", "0s, must be above 0s"}},
		{bad(&postbusv1.Message{Channel: "a", Ttl: seconds(-1.5)}), `{"messages":[{"channel":"a"},{"channel":"a","ttl":"-1.5s"}]}`, violation{"INVALID_FIELD", "messages[1].ttl", "-1.5s, must be above 0s"}},

		{&postbusv1.PollRequest{}, `{}`, violation{"INVALID_FIELD", "channels", "none, at least 1"}},
		{&postbusv1.PollRequest{Channels: make([]string, 1001)}, "", violation{"INVALID_FIELD", "channels", "1001 channels, at most 1000"}},
		{&postbusv1.PollRequest{Channels: []string{"a", " b"}}, `{"channels":["a"," b"]}`, violation{"INVALID_FIELD", "channels[1]", "white space at an end, none allowed"}},
		{&postbusv1.PollRequest{Channels: []string{"a"}, After: &negative}, `{"channels":["a"],"after":-1}`, violation{"INVALID_FIELD", "after", "-1, must not be negative"}},
		{&postbusv1.PollRequest{Channels: []string{"a"}, Timeout: seconds(-1)}, `{"channels":["a"],"timeout":"-1s"}`, violation{"INVALID_FIELD", "timeout", "-1s, must not be negative"}},
		{&postbusv1.PollRequest{Channels: []string{"a"}, Max: &zero}, `{"channels":["a"],"max":0}`, violation{"INVALID_FIELD", "max", "0, 1 to 1000"}},
		{&postbusv1.PollRequest{Channels: []string{"a"}, Max: &toomany}, `{"channels":["a"],"max":1001}`, violation{"INVALID_FIELD", "max", "1001, 1 to 1000"}},

		{&postbusv1.SubscribeRequest{}, `{"channels":[]}`, violation{"INVALID_FIELD", "channels", "none, at least 1"}},
		{&postbusv1.SubscribeRequest{Channels: []string{"postbus:a"}}, `{"channels":["postbus:a"]}`, violation{"INVALID_FIELD", "channels[0]", `begins with "postbus:", which is reserved`}},
		{&postbusv1.SubscribeRequest{Channels: []string{"a"}, After: &negative}, `{"channels":["a"],"after":"-1"}`, violation{"INVALID_FIELD", "after", "-1, must not be negative"}},
		{&postbusv1.SubscribeRequest{Channels: []string{"a"}, Heartbeat: seconds(0.5)}, `{"channels":["a"],"heartbeat":"0.5s"}`, violation{"INVALID_FIELD", "heartbeat", "0.5s, 1s to 50s"}},
		{&postbusv1.SubscribeRequest{Channels: []string{"a"}, Heartbeat: seconds(51)}, `{"channels":["a"],"heartbeat":"51s"}`, violation{"INVALID_FIELD", "heartbeat", "51s, 1s to 50s"}},
	} {
		if got := violationOf(t, n.call(short(t), c.request)); got != c.want {
			t.Errorf("gRPC: got %+v, want %+v", got, c.want)
		}
		if c.body == "" {
			continue
		}
		code, answer := n.post(t, path(c.request), c.body)
		if got := violationIn(t, code, answer); got != c.want {
			t.Errorf("JSON: got %+v, want %+v", got, c.want)
		}
	}
	n.send(t, message("other", "after it all"))
	reader.expect("after it all")
	if stored := ask[int](t, sql(t, url), "SELECT count(*) FROM postbus.bus WHERE channel <> 'other'"); stored != 0 {
		t.Errorf("%d messages of refused sends are stored", stored)
	}
}

func TestMembersOfTheWrongKindAreRefusedByName(t *testing.T) {
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	kinds := map[string]string{`true`: "a boolean", `7`: "a number", `"x"`: "a string", `[]`: "an array", `{}`: "an object"}
	for at, takes := range map[string]string{
		"/v1/send channel": `"x"`, "/v1/send type": `"x"`, "/v1/send key": `"x"`, "/v1/send ttl": ``, "/v1/send binary": ``, "/v1/send headers": `{}`,
		"/v1/send messages": `[]`, "/v1/poll channels": `[]`, "/v1/poll after": `7`, "/v1/poll timeout": ``, "/v1/poll max": `7`,
		"/v1/subscribe channels": `[]`, "/v1/subscribe after": `7`, "/v1/subscribe heartbeat": ``,
	} {
		route, member, _ := strings.Cut(at, " ")
		for value := range kinds {
			if value == takes {
				continue
			}
			body, field := fmt.Sprintf(`{%q:%s}`, member, value), member
			if route == "/v1/send" && member != "messages" {
				body, field = `{"messages":[`+body+`]}`, "messages[0]."+member
			}
			code, answer := n.post(t, route, body)
			if got := violationIn(t, code, answer); got.field != field || got.reason != "INVALID_FIELD" {
				t.Errorf("%s %s: %+v", route, body, got)
			}
		}
	}
	if stored := ask[int](t, sql(t, url), "SELECT count(*) FROM postbus.bus"); stored != 0 {
		t.Errorf("%d messages of refused sends are stored", stored)
	}
}

func TestUnknownFieldsAreRefusedByNameWhereverTheyStand(t *testing.T) {
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	with := func(m proto.Message) { m.ProtoReflect().SetUnknown(unknown) }
	request := sendRequest(message("a", "1"))
	inMessage := sendRequest(message("a", "1"), message("a", "2"))
	inTTL := sendRequest(&postbusv1.Message{Channel: "a", Ttl: durationpb.New(time.Minute)})
	poll, inTimeout := &postbusv1.PollRequest{Channels: []string{"a"}}, &postbusv1.PollRequest{Channels: []string{"a"}, Timeout: durationpb.New(0)}
	subscribe, inHeartbeat := &postbusv1.SubscribeRequest{Channels: []string{"a"}}, &postbusv1.SubscribeRequest{Channels: []string{"a"}, Heartbeat: durationpb.New(time.Second)}
	for _, m := range []proto.Message{request, inMessage.Messages[1], inTTL.Messages[0].Ttl, poll, inTimeout.Timeout, subscribe, inHeartbeat.Heartbeat} {
		with(m)
	}
	for name, c := range map[string]struct {
		request proto.Message
		says    string
	}{
		"SendRequest": {request, "field number 999 of SendRequest is not known to this server"}, "Message": {inMessage, "messages[1]: field number 999 of Message"},
		"ttl": {inTTL, "messages[0]: field number 999 of Duration"}, "PollRequest": {poll, "field number 999 of PollRequest"}, "timeout": {inTimeout, "field number 999 of Duration"},
		"SubscribeRequest": {subscribe, "field number 999 of SubscribeRequest"}, "heartbeat": {inHeartbeat, "field number 999 of Duration"},
	} {
		err := n.call(short(t), c.request)
		if got := violationOf(t, err); got.reason != "UNKNOWN_FIELD" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	for _, c := range []struct{ method, path, body, field string }{
		{"POST", "/v1/send", `{"message":[]}`, "message"},
		{"POST", "/v1/send", `{"messages":[{"channel":"a","json":"1"}]}`, "messages[0].json"},
		{"POST", "/v1/poll", `{"channels":["a"],"heartbeat":"1s"}`, "heartbeat"},
		{"POST", "/v1/subscribe", `{"channels":["a"],"timeout":"1s"}`, "timeout"},
		{"GET", "/v1/poll?channels=a&limit=3", "", "limit"},
		{"GET", "/v1/subscribe?channels=a&max=3", "", "max"},
		{"POST", "/v1/send?key=x", `{"messages":[{"channel":"a"}]}`, "key"},
		{"GET", "/openapi.json?v=3", "", "v"},
	} {
		resp, answer := n.asks(t, asking{method: c.method, path: c.path, body: c.body})
		if got := violationIn(t, resp.StatusCode, answer); got != (violation{"UNKNOWN_FIELD", c.field, "not known to this server"}) {
			t.Errorf("%s %s: %+v", c.path, c.body, got)
		}
	}
	if code, answer := n.post(t, "/v1/send?_ts=1", `{"_":{},"messages":[{"channel":"a","_note":[1]}]}`); code != 200 {
		t.Errorf("names that begin with _: %d %s", code, answer)
	}
}
