package tests

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// sql opens a connection as an application has one.
func sql(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(short(t), url)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// do runs statements one after the other.
func do(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.Exec(short(t), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// ask returns the single value of a query.
func ask[T any](t testing.TB, conn *pgx.Conn, query string, args ...any) (value T) {
	t.Helper()
	if err := conn.QueryRow(short(t), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// message is one whose payload is the text itself as a JSON string.
func message(channel, text string) *postbusv1.Message {
	return &postbusv1.Message{Channel: channel, Body: &postbusv1.Message_Json{Json: fmt.Sprintf("%q", text)}}
}

func keyed(channel, text, key string) *postbusv1.Message {
	m := message(channel, text)
	m.Key = key
	return m
}

// send sends and returns the results.
func (n *node) send(t testing.TB, messages ...*postbusv1.Message) []*postbusv1.SendResult {
	t.Helper()
	response, err := n.rpc.Send(short(t), &postbusv1.SendRequest{Messages: messages})
	must(t, err)
	return response.GetResults()
}

// poll asks once, without waiting.
func (n *node) poll(t testing.TB, after int64, channels ...string) *postbusv1.PollResponse {
	t.Helper()
	return n.pollFor(t, 0, after, channels...)
}

func (n *node) pollFor(t testing.TB, timeout time.Duration, after int64, channels ...string) *postbusv1.PollResponse {
	t.Helper()
	response, err := n.rpc.Poll(short(t), &postbusv1.PollRequest{Channels: channels, After: &after, Timeout: durationpb.New(timeout)})
	must(t, err)
	return response
}

// reason returns the ErrorInfo's reason of an error, "" if it has none.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "postbus" {
			return info.GetReason()
		}
	}
	return ""
}

// A stream reads one Subscribe and checks what every stream promises: ids ascend, none
// comes twice, and last is never below them.
type stream struct {
	t       testing.TB
	recv    func() (*postbusv1.SubscribeResponse, error)
	cancel  context.CancelFunc
	pending []*postbusv1.Notification
	gaps    []*postbusv1.Gap
	id      int64 // the newest received
	last    int64
}

// subscribe opens a stream and reads its first response: from then on nothing is missed.
// after below 0 is absent.
func (n *node) subscribe(t testing.TB, after int64, channels ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	request := &postbusv1.SubscribeRequest{Channels: channels}
	if after >= 0 {
		request.After = &after
	}
	opened, err := n.rpc.Subscribe(ctx, request)
	must(t, err)
	s := &stream{t: t, recv: opened.Recv, cancel: cancel}
	s.receive()
	return s
}

// receive reads one response.
func (s *stream) receive() {
	s.t.Helper()
	dog := time.AfterFunc(longest, s.cancel)
	response, err := s.recv()
	if !dog.Stop() || err != nil {
		s.t.Fatalf("stream at %d: %v", s.last, err)
	}
	if gap := response.GetGap(); gap != nil {
		s.gaps = append(s.gaps, gap)
		s.id = gap.GetUntil()
	}
	for _, n := range response.GetNotifications() {
		if n.GetId() <= s.id {
			s.t.Fatalf("id %d after %d in one stream", n.GetId(), s.id)
		}
		s.id = n.GetId()
	}
	if response.GetLast() < s.id {
		s.t.Fatalf("last is %d, below the id %d", response.GetLast(), s.id)
	}
	s.last = response.GetLast()
	s.pending = append(s.pending, response.GetNotifications()...)
}

// next returns the next notification.
func (s *stream) next() *postbusv1.Notification {
	s.t.Helper()
	for begun := time.Now(); len(s.pending) == 0; s.receive() {
		if time.Since(begun) > longest { // heartbeats alone
			s.t.Fatalf("stream at %d: nothing came within %v", s.last, longest)
		}
	}
	n := s.pending[0]
	s.pending = s.pending[1:]
	return n
}

// expect reads as many notifications as there are texts and compares.
func (s *stream) expect(texts ...string) []int64 {
	s.t.Helper()
	var ids []int64
	for _, text := range texts {
		n := s.next()
		if got := textOf(n); got != text {
			s.t.Fatalf("received %q as id %d, want %q", got, n.GetId(), text)
		}
		ids = append(ids, n.GetId())
	}
	return ids
}

// textOf is the opposite of message.
func textOf(n *postbusv1.Notification) string {
	var text string
	fmt.Sscanf(n.GetJson(), "%q", &text)
	return text
}

func textsOf(notifications []*postbusv1.Notification) []string {
	texts := make([]string, len(notifications))
	for i, n := range notifications {
		texts[i] = textOf(n)
	}
	return texts
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %d %.300q, want %d %.300q", what, len(got), got, len(want), want)
	}
}

// numbered returns "prefix0", "prefix1", …
func numbered(prefix string, count int) []string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return texts
}

func sendRequest(messages ...*postbusv1.Message) *postbusv1.SendRequest {
	return &postbusv1.SendRequest{Messages: messages}
}

// untilEnd reads up to the message "end" and returns what came before.
func (s *stream) untilEnd() (texts []string) {
	s.t.Helper()
	for {
		text := textOf(s.next())
		if text == "end" {
			return texts
		}
		texts = append(texts, text)
	}
}

// checkDelivered checks that every answered message was delivered once, that nothing came
// twice, and that nothing came of what the answer said was certainly not stored.
func checkDelivered(t testing.TB, delivered []string, answered, refused map[string]bool) {
	t.Helper()
	times := map[string]int{}
	for _, text := range delivered {
		times[text]++
		if refused[text] {
			t.Errorf("%q was delivered; its sender was told that it was not stored", text)
		}
		if times[text] > 1 {
			t.Errorf("%q was delivered %d times", text, times[text])
		}
	}
	for text := range answered {
		if times[text] != 1 {
			t.Errorf("%q was answered and delivered %d times", text, times[text])
		}
	}
}
