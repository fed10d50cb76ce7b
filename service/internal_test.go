package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/groupcommit"
)

func TestErrorsBecomeTheStatusThatTheContractNames(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   codes.Code
		reason string
		http   int
		retry  bool
	}{
		{bus.Invalid(bus.TooLarge, "a", "b"), codes.InvalidArgument, "TOO_LARGE", 400, false},
		{&http.MaxBytesError{Limit: 1}, codes.InvalidArgument, "TOO_LARGE", 400, false},
		{bus.ErrSendQueueFull, codes.ResourceExhausted, "SEND_QUEUE_FULL", 429, true},
		{bus.ErrTooManyReaders, codes.ResourceExhausted, "TOO_MANY_READERS", 429, true},
		{bus.ErrUnavailable, codes.Unavailable, "DATABASE_UNAVAILABLE", 503, true},
		{fmt.Errorf("%w: %w", bus.ErrUnavailable, context.DeadlineExceeded), codes.Unavailable, "DATABASE_UNAVAILABLE", 503, true},
		{bus.ErrDraining, codes.Unavailable, "DRAINING", 503, true},
		{bus.ErrKeyBusy, codes.Unavailable, "KEY_BUSY", 503, true},
		{fmt.Errorf("%w: %w", bus.ErrUnknownOutcome, context.Canceled), codes.Unknown, "OUTCOME_UNKNOWN", 500, false},
		{&groupcommit.DataError{Err: errors.New("secret")}, codes.InvalidArgument, "INVALID_FIELD", 400, false},
		{context.Canceled, codes.Canceled, "CANCELED", 499, false},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", 504, false},
		{errors.New("secret"), codes.Internal, "INTERNAL", 500, false},
	} {
		f := faultOf(fmt.Errorf("operation: %w", c.err))
		if f.code != c.code || f.reason != c.reason || f.httpStatus() != c.http || (f.retry > 0) != c.retry {
			t.Errorf("%v: %+v, want %+v", c.err, f, c)
		}
		if !slices.Contains(Reasons(), f.reason) {
			t.Errorf("%s is not listed", f.reason)
		}
		if strings.Contains(f.message, "secret") {
			t.Errorf("the client reads %q", f.message)
		}
	}
}

func TestPanicEndsItsOwnRequestWithAFixedSentence(t *testing.T) {
	var log bytes.Buffer
	s := &Service{counts: newCounts(), log: slog.New(slog.NewTextHandler(&log, nil))}
	err := func() (err error) {
		defer s.finish(t.Context(), "Send", &err)
		panic("secret")
	}()
	if f := faultOf(err); f.code != codes.Internal || f.message != internalSentence {
		t.Error(f)
	}
	if !strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), "internal_test.go") {
		t.Errorf("the log has neither the panic nor its stack: %s", &log)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/v1/poll", nil)
	func() {
		defer s.recoverHTTP(w, r)
		panic("secret")
	}()
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || s.counts.faults[ReasonInternal].Load() != 2 {
		t.Error(w.Code, w.Body)
	}
}

func TestFrameIsAResponse(t *testing.T) {
	sent := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	b := dispatch.Batch{
		Notifications: []*bus.Notification{
			{ID: 1, Channel: "c", Type: "t", JSON: `{"a":1}`, Headers: map[string]string{"h": "v"}, SentAt: sent},
			{ID: 1 << 40, Channel: "d", Binary: []byte{}, SentAt: sent},
		},
		Last: 1<<40 + 1,
		Gap:  &bus.Gap{Reason: bus.Trimmed, After: 0, Until: 7},
	}
	for range 2 { // the second time from the shared bytes
		wire, err := newFrameCodec().Marshal(newFrame(b))
		if err != nil {
			t.Fatal(err)
		}
		var got postbusv1.SubscribeResponse
		if err := proto.Unmarshal(wire.Materialize(), &got); err != nil {
			t.Fatal(err)
		}
		want := &postbusv1.SubscribeResponse{Last: int64(b.Last), Gap: gapOf(b.Gap)}
		for _, n := range b.Notifications {
			want.Notifications = append(want.Notifications, notificationOf(n))
		}
		if !proto.Equal(&got, want) {
			t.Fatalf("got %v, want %v", &got, want)
		}
		var poll postbusv1.PollResponse
		if err := proto.Unmarshal(wire.Materialize(), &poll); err != nil {
			t.Fatal(err)
		}
		if want := (&postbusv1.PollResponse{Notifications: want.Notifications, Last: want.Last, Gap: want.Gap}); !proto.Equal(&poll, want) {
			t.Fatalf("got %v, want %v", &poll, want)
		}
	}
}

func TestPollLeavesTheCallerAMargin(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{
		10 * time.Second: 9 * time.Second, time.Second: 750 * time.Millisecond, 100 * time.Second: 30 * time.Second, 9 * time.Millisecond: 0,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		if got := waitWithin(ctx, 30*time.Second); got > want || got < want-100*time.Millisecond {
			t.Errorf("with %v left: %v, want %v", left, got, want)
		}
		cancel()
	}
}

// TestStreamsAreNotCompressed: what is prepared on one stream is sent on all.
func TestStreamsAreNotCompressed(t *testing.T) {
	if encoding.GetCompressor("gzip") != nil {
		t.Error("gzip is registered: a stream's messages can no longer be prepared for all")
	}
}
