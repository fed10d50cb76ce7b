package service_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/service"
)

// do makes a request of the JSON side; header is name and value by turns.
func (n *node) do(t *testing.T, method, path, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, answer
}

// lines opens the line stream and returns a function that reads its next line.
func (n *node) lines(t *testing.T, query string) (*http.Response, func() string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.http.URL+"/v1/subscribe?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	r := bufio.NewReader(resp.Body)
	return resp, func() string {
		t.Helper()
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, line)
		}
		return strings.TrimSuffix(line, "\n")
	}
}

const paid = `{"id":1,"channel":"orders","type":"paid","payload":{"order":12345678901234567890,"order":"\u00e9"},` +
	`"headers":{"a":"<b>"},"sent_at":"2026-01-02T03:04:05.678Z"}`

func TestWhatIsSentInJSONArrivesByEveryTransport(t *testing.T) {
	n := start(t, nil)
	schemas := loadSchemas(t)
	_, line := n.lines(t, "channels=orders")
	if first := line(); first != `{"notifications":[],"last":0}` {
		t.Fatalf("first line %s", first)
	}
	stream, err := n.client.Subscribe(t.Context(), &postbusv1.SubscribeRequest{Channels: []string{"orders", "orders"}})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || len(first.Notifications) != 0 {
		t.Fatal(first, err)
	}

	resp, answer := n.do(t, "POST", "/v1/send", `{"_note":1,"messages":[{"channel":"orders","type":"paid","key":null,
		"payload": {"order" : 12345678901234567890, "order":"\u00e9"},"headers":{"a":"<b>"},"ttl":"1.5s"}]}`)
	schemas.check(t, "SendResponse", answer)
	if resp.StatusCode != 200 || strings.TrimSpace(string(answer)) != `{"results":[{"id":1,"duplicate":false}]}` {
		t.Fatal(resp.Status, string(answer))
	}

	want := `{"notifications":[` + paid + `],"last":1}`
	if got := line(); got != want {
		t.Fatalf("line\n got %s\nwant %s", got, want)
	}
	for _, poll := range []func() (*http.Response, []byte){
		func() (*http.Response, []byte) {
			return n.do(t, "GET", "/v1/poll?channels=x&channels=orders&after=0&_=7", "")
		},
		func() (*http.Response, []byte) {
			return n.do(t, "POST", "/v1/poll", `{"channels":["orders"],"after":"0","timeout":null,"max":5}`)
		},
	} {
		resp, answer := poll()
		schemas.check(t, "PollResponse", answer)
		if resp.StatusCode != 200 || strings.TrimSpace(string(answer)) != want {
			t.Fatalf("poll %s\n got %s\nwant %s", resp.Status, answer, want)
		}
	}
	got, err := stream.Recv()
	if err != nil || got.Last != 1 || len(got.Notifications) != 1 {
		t.Fatal(got, err)
	}
	if json := got.Notifications[0].GetJson(); json != `{"order" : 12345678901234567890, "order":"\u00e9"}` {
		t.Fatalf("gRPC payload %s", json)
	}
	_, answer = n.do(t, "POST", "/longpolling/poll", `{"jsonrpc":"2.0","id":"x","params":{"channels":["orders"],"last":0}}`)
	if string(answer) != `{"jsonrpc":"2.0","id":"x","result":[{"id":1,"message":{"type":"paid","payload":{"order":12345678901234567890,"order":"\u00e9"}}}]}` {
		t.Fatalf("Odoo %s", answer)
	}
}

func TestBinaryArrivesAsTheSameBytes(t *testing.T) {
	n := start(t, nil)
	for _, text := range []string{"+/8", "-_8=", "-_8", "+/8="} {
		n.do(t, "POST", "/v1/send", `{"messages":[{"channel":"b","binary":"`+text+`"}]}`)
	}
	n.send(t, &postbusv1.Message{Channel: "b", Body: &postbusv1.Message_Binary{}})
	resp, err := n.client.Poll(t.Context(), &postbusv1.PollRequest{Channels: []string{"b"}, After: new(int64)})
	if err != nil || len(resp.Notifications) != 5 {
		t.Fatal(resp, err)
	}
	for _, got := range resp.Notifications[:4] {
		if string(got.GetBinary()) != "\xfb\xff" {
			t.Errorf("got %x", got.GetBinary())
		}
	}
	if _, empty := resp.Notifications[4].Body.(*postbusv1.Notification_Binary); !empty {
		t.Errorf("empty bytes arrived as %v", resp.Notifications[4])
	}
	_, answer := n.do(t, "GET", "/v1/poll?channels=b&after=0&max=1", "")
	loadSchemas(t).check(t, "PollResponse", answer)
	if !strings.Contains(string(answer), `"binary":"+/8="`) || strings.Contains(string(answer), "payload") {
		t.Error(string(answer))
	}
}

func TestPollThatFindsNothingAnswersEmptyBeforeTheDeadline(t *testing.T) {
	n := start(t, nil)
	id := n.send(t, jsonMessage("other", "1"))
	for name, c := range map[string]struct {
		deadline, timeout, least, most time.Duration
	}{
		"0s":           {0, 0, 0, time.Second},
		"timeout":      {0, 300 * time.Millisecond, 290 * time.Millisecond, 2 * time.Second},
		"deadline":     {800 * time.Millisecond, 30 * time.Second, 500 * time.Millisecond, 790 * time.Millisecond},
		"far deadline": {3 * time.Second, 30 * time.Second, 1900 * time.Millisecond, 2500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if c.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
				defer cancel()
			}
			begun := time.Now()
			resp, err := n.client.Poll(ctx, &postbusv1.PollRequest{Channels: []string{"c"}, Timeout: durationpb.New(c.timeout)})
			if took := time.Since(begun); err != nil || took < c.least || took > c.most {
				t.Errorf("%v after %v, want %v to %v", err, took, c.least, c.most)
			}
			if err == nil && (len(resp.Notifications) != 0 || resp.Last != id || resp.Gap != nil) {
				t.Error(resp)
			}
		})
	}
	resp, answer := n.do(t, "GET", "/v1/poll?channels=c", "", "Grpc-Timeout", "400m")
	if resp.StatusCode != 200 || strings.TrimSpace(string(answer)) != `{"notifications":[],"last":1}` {
		t.Error(resp.Status, string(answer))
	}
}

func TestLossIsToldAsAGap(t *testing.T) {
	n := start(t, nil)
	for range 3 {
		n.send(t, jsonMessage("c", "1"))
	}
	_, answer := n.do(t, "GET", "/v1/poll?channels=c&after=9007199254740991", "")
	loadSchemas(t).check(t, "PollResponse", answer)
	if want := `{"notifications":[],"last":3,"gap":{"reason":"REASON_AHEAD","after":3,"until":3}}`; strings.TrimSpace(string(answer)) != want {
		t.Errorf("got %s, want %s", answer, want)
	}
	after := int64(1 << 40)
	stream, err := n.client.Subscribe(t.Context(), &postbusv1.SubscribeRequest{Channels: []string{"c"}, After: &after})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := stream.Recv(); err != nil || resp.Gap.GetReason() != postbusv1.Gap_REASON_AHEAD || resp.Gap.Until != 3 || resp.Last != 3 {
		t.Error(resp, err)
	}
}

func TestDrainGivesEveryStreamItsLast(t *testing.T) {
	n := start(t, nil)
	id := n.send(t, jsonMessage("other", "1"))
	resp, line := n.lines(t, "channels=c")
	if got := resp.Header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Error(got)
	}
	line()
	stream, err := n.client.Subscribe(t.Context(), &postbusv1.SubscribeRequest{Channels: []string{"c"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	polled := make(chan error, 1)
	go func() {
		resp, err := n.client.Poll(t.Context(), &postbusv1.PollRequest{Channels: []string{"c"}})
		if err == nil && resp.Last != id {
			err = status.Errorf(codes.Internal, "last %d", resp.Last)
		}
		polled <- err
	}()
	for n.service.Stats().OpenPolls == 0 {
		time.Sleep(time.Millisecond) // nothing tells that a poll is parked
	}
	n.dispatcher.Drain()

	if resp, err := stream.Recv(); err != nil || resp.Last != id {
		t.Error(resp, err)
	}
	_, err = stream.Recv()
	wantFault(t, err, codes.Unavailable, service.ReasonDraining, true)
	if got := line(); got != `{"notifications":[],"last":1}` {
		t.Error(got)
	}
	end := line()
	loadSchemas(t).check(t, "Error", []byte(end))
	if !strings.HasPrefix(end, `{"error":{"code":14,"status":"UNAVAILABLE","reason":"DRAINING"`) {
		t.Error(end)
	}
	if err := <-polled; err != nil {
		t.Errorf("the poll that was open: %v", err)
	}
	_, err = n.client.Poll(t.Context(), &postbusv1.PollRequest{Channels: []string{"c"}})
	wantFault(t, err, codes.Unavailable, service.ReasonDraining, true)
}

func TestReadersAboveTheBoundAreRefused(t *testing.T) {
	n := start(t, func(o *service.Options) { o.MaxReaders = 1 })
	_, line := n.lines(t, "channels=c")
	line()
	_, err := n.client.Poll(t.Context(), &postbusv1.PollRequest{Channels: []string{"c"}})
	wantFault(t, err, codes.ResourceExhausted, service.ReasonTooManyReaders, true)
	resp, answer := n.do(t, "GET", "/v1/subscribe?channels=c", "")
	loadSchemas(t).check(t, "Error", answer)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "5" {
		t.Error(resp.Status, resp.Header)
	}
	if stats := n.service.Stats(); stats.OpenStreams != 1 || stats.OpenPolls != 0 || stats.Faults[service.ReasonTooManyReaders] != 2 {
		t.Errorf("%+v", stats)
	}
}

func TestStreamStaysOpenThroughAnOutageAndPollIsNeverEmptyInIt(t *testing.T) {
	n := start(t, nil)
	_, line := n.lines(t, "channels=c&heartbeat=1s")
	line()
	n.log.setAway(true)
	for n.dispatcher.State().Connected {
		time.Sleep(time.Millisecond) // nothing tells that the tail was lost
	}
	_, err := n.client.Poll(t.Context(), &postbusv1.PollRequest{Channels: []string{"c"}, Timeout: new(durationpb.Duration)})
	wantFault(t, err, codes.Unavailable, service.ReasonDatabaseUnavailable, true)
	_, err = n.client.Send(t.Context(), &postbusv1.SendRequest{Messages: []*postbusv1.Message{jsonMessage("c", "1")}})
	wantFault(t, err, codes.Unavailable, service.ReasonDatabaseUnavailable, true)
	if beat := line(); beat != `{"notifications":[],"last":0}` {
		t.Errorf("heartbeat in the outage: %s", beat)
	}
	n.log.setAway(false)
	n.send(t, jsonMessage("c", "1"))
	for {
		var got struct{ Notifications []json.RawMessage }
		if err := json.Unmarshal([]byte(line()), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Notifications) == 1 {
			return
		}
	}
}

func TestStreamSitsOutReadsThatFail(t *testing.T) {
	log := newMemory()
	for range 2500 {
		if _, _, err := log.Append(t.Context(), [][]bus.Message{{{Channel: "c", JSON: "1"}}}); err != nil {
			t.Fatal(err)
		}
	}
	log.broken = 5
	n := startOn(t, log, nil)
	stream, err := n.client.Subscribe(t.Context(), &postbusv1.SubscribeRequest{Channels: []string{"c"}, After: new(int64)})
	if err != nil {
		t.Fatal(err)
	}
	for want := int64(1); want <= 2500; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatalf("at %d: %v", want, err)
		}
		for _, got := range resp.Notifications {
			if got.Id != want {
				t.Fatalf("got %d, want %d", got.Id, want)
			}
			want++
		}
	}
}

func TestTrimmedIsToldOnceAndOdooWaitsOn(t *testing.T) {
	log := newMemory()
	for range 10 {
		if _, _, err := log.Append(t.Context(), [][]bus.Message{{{Channel: "c", JSON: "1"}}}); err != nil {
			t.Fatal(err)
		}
	}
	log.trimmed = 10
	n := startOn(t, log, nil)
	_, answer := n.do(t, "GET", "/v1/poll?channels=c&after=4", "")
	if want := `{"notifications":[],"last":10,"gap":{"reason":"REASON_TRIMMED","after":4,"until":10}}`; strings.TrimSpace(string(answer)) != want {
		t.Errorf("got %s, want %s", answer, want)
	}
	if _, answer = n.do(t, "GET", "/v1/poll?channels=c&after=0&timeout=0s", ""); strings.Contains(string(answer), "gap") {
		t.Errorf("a gap behind 0: %s", answer)
	}
	_, answer = n.do(t, "POST", "/longpolling/poll", `{"id":null,"params":{"channels":["c"],"last":4,"options":{"peek":true}}}`)
	if want := `{"jsonrpc":"2.0","id":null,"result":{"notifications":[],"channels":["c"]}}`; string(answer) != want {
		t.Errorf("got %s, want %s", answer, want)
	}
	answered := make(chan string, 1)
	go func() {
		_, answer := n.do(t, "POST", "/longpolling/poll", `{"params":{"channels":["c"],"last":4}}`)
		answered <- string(answer)
	}()
	for n.service.Stats().OpenPolls == 0 {
		time.Sleep(time.Millisecond) // nothing tells that a poll is parked
	}
	select {
	case early := <-answered:
		t.Fatalf("answered before there was anything: %s", early)
	case <-time.After(100 * time.Millisecond): // an answer because of the gap comes at once
	}
	n.send(t, &postbusv1.Message{Channel: "c", Type: "t", Body: &postbusv1.Message_Binary{Binary: []byte{255}}})
	if got, want := <-answered, `{"jsonrpc":"2.0","id":null,"result":[{"id":11,"message":{"type":"t","payload":"/w=="}}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOdooErrorsHaveArgumentsAndItsCORS(t *testing.T) {
	n := start(t, nil)
	resp, answer := n.do(t, "POST", "/longpolling/poll", `{"id":7,"params":{"channels":[1],"last":0}}`, "Origin", "https://any.example")
	want := `{"jsonrpc":"2.0","id":7,"error":{"code":200,"message":"Odoo Server Error","data":{"name":"builtins.Exception","debug":"",` +
		`"message":"bus.Bus only string channels are allowed.","arguments":["bus.Bus only string channels are allowed."],"context":{}}}}`
	if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "*" || string(answer) != want {
		t.Errorf("%s %v\n got %s\nwant %s", resp.Status, resp.Header, answer, want)
	}
	resp, _ = n.do(t, "OPTIONS", "/longpolling/poll", "", "Origin", "https://any.example")
	if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Max-Age") != "86400" || resp.Header.Get("Access-Control-Allow-Methods") != "POST" {
		t.Error(resp.Status, resp.Header)
	}
	resp, answer = n.do(t, "GET", "/longpolling/poll", `{"params":{"channels":["c "],"last":1}}`, "Content-Type", "application/json-rpc; charset=utf-8")
	if resp.StatusCode != 200 || !strings.Contains(string(answer), `"arguments":["channels[0]: white space at an end, none allowed"]`) {
		t.Error(resp.Status, string(answer))
	}
}

func TestASecondMessageWithAKeyStoresNothing(t *testing.T) {
	n := start(t, nil)
	body := `{"messages":[{"channel":"c","key":"k"},{"channel":"c","key":"k"},{"channel":"d","key":"k"}]}`
	if _, answer := n.do(t, "POST", "/v1/send", body); strings.TrimSpace(string(answer)) !=
		`{"results":[{"id":1,"duplicate":false},{"id":1,"duplicate":true},{"id":2,"duplicate":false}]}` {
		t.Error(string(answer))
	}
	if stats := n.service.Stats(); stats.Sends != 1 || stats.Messages != 3 || stats.Duplicates != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestUnknownProtobufFieldsAreRefused(t *testing.T) {
	n := start(t, nil)
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	m := jsonMessage("c", "1")
	m.ProtoReflect().SetUnknown(unknown)
	_, err := n.client.Send(t.Context(), &postbusv1.SendRequest{Messages: []*postbusv1.Message{jsonMessage("c", "1"), m}})
	wantFault(t, err, codes.InvalidArgument, service.ReasonUnknownField, false)
	if want := "messages[1]: field number 99 of Message is not known to this server"; status.Convert(err).Message() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	poll := &postbusv1.PollRequest{Channels: []string{"c"}}
	poll.ProtoReflect().SetUnknown(unknown)
	_, err = n.client.Poll(t.Context(), poll)
	wantFault(t, err, codes.InvalidArgument, service.ReasonUnknownField, false)
}

// wantFault fails the test unless err is a status of ours with that reason.
func wantFault(t *testing.T, err error, code codes.Code, reason string, retry bool) {
	t.Helper()
	s := status.Convert(err)
	got, retries := "", false
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain == "postbus" {
				got = d.Reason
			}
		case *errdetails.RetryInfo:
			retries = d.RetryDelay.AsDuration() > 0
		}
	}
	if s.Code() != code || got != reason || retries != retry {
		t.Errorf("got %v %s, retry %v; want %v %s, retry %v", err, got, retries, code, reason, retry)
	}
}
