package robust

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/tests/robust/history"
)

// cursor is the reader's after as a request has it.
func (r *reader) cursor() *int64 { return cursorOf(r.after) }

func cursorOf(after int64) *int64 {
	if after == history.Absent {
		return nil
	}
	return &after
}

func (r *reader) grpcPoll(ctx context.Context, l *life) error {
	response, err := l.bus.Poll(ctx, &postbusv1.PollRequest{
		Channels: r.Channels, After: r.cursor(), Timeout: durationpb.New(r.present.timeout), Max: &r.present.max,
	})
	if err != nil {
		return err
	}
	r.take(ctx, history.Response{
		Notifications: notificationsOf(response.GetNotifications()), Last: response.GetLast(), Gap: gapOf(response.GetGap()),
	})
	return nil
}

func (r *reader) grpcStream(ctx context.Context, l *life) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.bus.Subscribe(ctx, &postbusv1.SubscribeRequest{Channels: r.Channels, After: r.cursor(), Heartbeat: durationpb.New(heartbeat)})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if !r.take(ctx, history.Response{
			Notifications: notificationsOf(response.GetNotifications()), Last: response.GetLast(), Gap: gapOf(response.GetGap()),
		}) {
			return nil
		}
	}
}

func notificationsOf(received []*postbusv1.Notification) []history.Notification {
	kept := make([]history.Notification, len(received))
	for i, n := range received {
		_, binary := n.GetBody().(*postbusv1.Notification_Binary)
		body := n.GetBinary()
		if !binary {
			body = []byte(n.GetJson())
		}
		kept[i] = history.Notification{ID: n.GetId(), Channel: n.GetChannel(), Token: n.GetType(), Sum: history.Sum(binary, body, n.GetHeaders())}
	}
	return kept
}

func gapOf(g *postbusv1.Gap) *history.Gap {
	if g == nil {
		return nil
	}
	return &history.Gap{Reason: g.GetReason().String(), After: g.GetAfter(), Until: g.GetUntil()}
}

// ask makes a JSON request of the reader's, with what the route has besides.
func (r *reader) ask(ctx context.Context, l *life, route string, more map[string]any) (*http.Response, error) {
	fields := map[string]any{"channels": r.Channels}
	if after := r.cursor(); after != nil {
		fields["after"] = *after
	}
	for name, value := range more {
		fields[name] = value
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.httpURL+route, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return l.web.Do(request)
}

func (r *reader) jsonPoll(ctx context.Context, l *life) error {
	answer, err := r.ask(ctx, l, "/v1/poll", map[string]any{
		"timeout": fmt.Sprintf("%.3fs", r.present.timeout.Seconds()), "max": r.present.max,
	})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	response, err := responseOf(text)
	if err != nil {
		return err
	}
	r.take(ctx, response)
	return nil
}

// responseOf reads the JSON form of a response. A socket's ack is one that has a last alone.
// An error has the status that gRPC would give.
func responseOf(text []byte) (history.Response, error) {
	var said struct {
		Notifications []struct {
			ID      int64
			Channel string
			Type    string
			Payload json.RawMessage
			Binary  *[]byte
			Headers map[string]string
		}
		Last  int64
		Gap   *history.Gap
		Ack   *struct{ Last int64 }
		Error *struct {
			Code            codes.Code
			Reason, Message string
		}
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return history.Response{}, fmt.Errorf("%w: %.200q: %w", errOdd, text, err)
	}
	if said.Error != nil {
		return history.Response{}, status.Errorf(said.Error.Code, "%s: %s", said.Error.Reason, said.Error.Message)
	}
	if said.Ack != nil {
		said.Last = said.Ack.Last
	}
	response := history.Response{Last: said.Last, Gap: said.Gap, Notifications: []history.Notification{}}
	for _, n := range said.Notifications {
		kept := history.Notification{ID: n.ID, Channel: n.Channel, Token: n.Type}
		if n.Binary != nil {
			kept.Sum = history.Sum(true, *n.Binary, n.Headers)
		} else {
			kept.Sum = history.Sum(false, n.Payload, n.Headers)
		}
		response.Notifications = append(response.Notifications, kept)
	}
	return response, nil
}
