package client

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

func stored(ids ...int64) *postbusv1.SendResponse {
	r := &postbusv1.SendResponse{}
	for _, id := range ids {
		r.Results = append(r.Results, &postbusv1.SendResult{Id: id})
	}
	return r
}

func TestSendRetriesWhatCertainlyStoredNothing(t *testing.T) {
	const asked = 300 * time.Millisecond
	s := &script{send: func(_ context.Context, try int, _ *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
		switch try {
		case 1:
			return nil, told(t, codes.Unavailable, asked)
		case 2:
			return nil, told(t, codes.ResourceExhausted, asked)
		}
		return stored(7), nil
	}}
	c := play(t, s, Options{})
	began := time.Now()
	receipts, err := c.Send(within(t, 20*time.Second), Message{Channel: "a"})
	if err != nil || len(receipts) != 1 || receipts[0] != (Receipt{ID: 7}) {
		t.Fatalf("got %v, %v", receipts, err)
	}
	if took := time.Since(began); took < 2*asked {
		t.Errorf("took %v, the server asked for twice %v", took, asked)
	}
}

// unknownOutcomes are the ways in which a try ends so that nobody knows.
func unknownOutcomes(s *script) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"broken connection": func(ctx context.Context) error { s.cut(); <-ctx.Done(); return ctx.Err() },
		"deadline":          func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"proxy's refusal":   func(context.Context) error { return status.Error(codes.Unavailable, "no healthy upstream") },
		"unknown":           func(context.Context) error { return status.Error(codes.Unknown, "?") },
	}
}

func TestSendWithKeysRetriesUnknownOutcomes(t *testing.T) {
	for name := range unknownOutcomes(nil) {
		t.Run(name, func(t *testing.T) {
			var keys []string
			s := &script{}
			s.send = func(ctx context.Context, try int, r *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
				s.mu.Lock()
				keys = append(keys, r.GetMessages()[0].GetKey())
				s.mu.Unlock()
				if try == 1 {
					return nil, unknownOutcomes(s)[name](ctx)
				}
				return stored(7, 8), nil
			}
			c := play(t, s, Options{SendTimeout: time.Second})
			receipts, err := c.Send(within(t, 20*time.Second), Message{Channel: "a", Key: NewKey()}, Message{Channel: "a", Key: "k"})
			if err != nil || len(receipts) != 2 {
				t.Fatalf("got %v, %v", receipts, err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(keys) != 2 || keys[0] != keys[1] {
				t.Errorf("tried with keys %q, want the same twice", keys)
			}
		})
	}
}

func TestSendWithoutKeyNeverRetriesUnknownOutcomes(t *testing.T) {
	for name := range unknownOutcomes(nil) {
		t.Run(name, func(t *testing.T) {
			s := &script{}
			s.send = func(ctx context.Context, _ int, _ *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
				return nil, unknownOutcomes(s)[name](ctx)
			}
			c := play(t, s, Options{SendTimeout: 500 * time.Millisecond})
			// One message without a key makes the whole Send one without.
			_, err := c.Send(within(t, 20*time.Second), Message{Channel: "a", Key: "k"}, Message{Channel: "a"})
			if !errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("got %v, want ErrUnknownOutcome", err)
			}
			if s.seen() != 1 {
				t.Errorf("tried %d times, want once", s.seen())
			}
		})
	}
}

func TestSendNeverRepeatsARefusal(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented} {
		s := &script{send: func(context.Context, int, *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
			return nil, told(t, code, 0)
		}}
		c := play(t, s, Options{})
		_, err := c.Send(within(t, 20*time.Second), Message{Channel: "a", Key: "k"})
		if status.Code(err) != code || errors.Is(err, ErrUnknownOutcome) || s.seen() != 1 {
			t.Errorf("%v: got %v after %d tries", code, err, s.seen())
		}
	}
}

func TestSendKeepsTheDoubtOfAnEarlierTry(t *testing.T) {
	s := &script{send: func(_ context.Context, try int, _ *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
		if try == 1 {
			return nil, status.Error(codes.Unknown, "?")
		}
		return nil, told(t, codes.Unavailable, 0)
	}}
	c := play(t, s, Options{SendTries: 2})
	_, err := c.Send(within(t, 20*time.Second), Message{Channel: "a", Key: "k"})
	if !errors.Is(err, ErrUnknownOutcome) || status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want ErrUnknownOutcome with the last status", err)
	}
	if s.seen() != 2 {
		t.Errorf("tried %d times, want SendTries = 2", s.seen())
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	s := &script{send: func(context.Context, int, *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
		return nil, told(t, codes.Unavailable, time.Minute)
	}}
	c := play(t, s, Options{})
	began := time.Now()
	_, err := c.Send(within(t, 500*time.Millisecond), Message{Channel: "a"})
	if status.Code(err) != codes.Unavailable || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v, want the server's word", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestSendNamesTheFieldAtFault(t *testing.T) {
	c := play(t, &script{}, Options{})
	for want, m := range map[string]Message{
		"messages[1].payload: set as well as binary": {Channel: "a", Payload: json.RawMessage("1"), Binary: []byte{1}},
		"messages[1].ttl: -1s, above 0s":             {Channel: "a", TTL: -time.Second},
		"messages[1].channel: not UTF-8":             {Channel: "\xff"},
		"messages[1].payload: not UTF-8":             {Channel: "a", Payload: json.RawMessage("\"\xff\"")},
		"messages[1].headers: \"\\xff\" is not":      {Channel: "a", Headers: map[string]string{"\xff": ""}},
	} {
		_, err := c.Send(within(t, time.Second), Message{Channel: "a"}, m)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMessageArrivesAsGiven(t *testing.T) {
	got := make(chan *postbusv1.Message, 3)
	s := &script{send: func(_ context.Context, _ int, r *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
		for _, m := range r.GetMessages() {
			got <- m
		}
		return stored(1, 2, 3), nil
	}}
	c := play(t, s, Options{})
	_, err := c.Send(within(t, 10*time.Second),
		Message{Channel: "a", Type: "t", Payload: json.RawMessage(` {"x": 1e400} `), TTL: time.Minute, Key: "k", Headers: map[string]string{"h": "v"}},
		Message{Channel: "b", Binary: []byte{}},
		Message{Channel: "c"})
	if err != nil {
		t.Fatal(err)
	}
	a, b, none := <-got, <-got, <-got
	if a.GetChannel() != "a" || a.GetType() != "t" || a.GetJson() != ` {"x": 1e400} ` || a.GetTtl().AsDuration() != time.Minute ||
		a.GetKey() != "k" || a.GetHeaders()["h"] != "v" {
		t.Errorf("got %v", a)
	}
	if _, binary := b.GetBody().(*postbusv1.Message_Binary); !binary {
		t.Errorf("an empty binary body arrived as %T", b.GetBody())
	}
	if none.GetBody() != nil || none.GetTtl() != nil {
		t.Errorf("got %v, want neither body nor ttl", none)
	}
}
