package robust

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/tests/robust/history"
)

const subscribe = "/v1/subscribe"

func (r *reader) jsonStream(ctx context.Context, l *life) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := r.ask(ctx, l, subscribe, map[string]any{"heartbeat": heartbeat.String()})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		response, err := responseOf(line)
		if err != nil {
			return err
		}
		if !r.take(ctx, response) {
			return nil
		}
	}
}

// query is what a URL says of a stream that begins at after.
func (r *reader) query(after *int64) url.Values {
	query := url.Values{"channels": r.Channels, "heartbeat": {heartbeat.String()}}
	if after != nil {
		query.Set("after", strconv.FormatInt(*after, 10))
	}
	return query
}

// eventStream reads as an EventSource does. One that comes back has the URL with which its page
// once began and the last id that it was given; a new one has a new URL.
func (r *reader) eventStream(ctx context.Context, l *life) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	after, comesBack := r.cursor(), !r.present.byURL && r.after != history.Absent
	if comesBack {
		after = cursorOf(r.first)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.httpURL+subscribe+"?"+r.query(after).Encode(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if comesBack {
		request.Header.Set("Last-Event-ID", strconv.FormatInt(r.after, 10))
	}
	answer, err := l.web.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body) // what there is of it
		return fmt.Errorf("%w: %s: %s", errOdd, answer.Status, text)
	}
	lines := bufio.NewReader(answer.Body)
	for {
		e, err := readEvent(lines)
		if err != nil {
			return err
		}
		response, err := e.response()
		if err != nil {
			rest(ctx, e.retry)
			return err
		}
		if !r.take(ctx, response) {
			return nil
		}
	}
}

// An event is one of a stream of events.
type event struct {
	kind, id, data string
	retry          time.Duration
}

// readEvent reads up to the empty line behind an event. What the end of the stream cuts is none.
func readEvent(lines *bufio.Reader) (e event, err error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return event{}, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			e.kind = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "retry":
			e.retry, err = time.ParseDuration(value + "ms")
		case "":
			return e, nil
		default:
			err = fmt.Errorf("%w: the line %.200q", errOdd, line)
		}
		if err != nil {
			return event{}, err
		}
	}
}

// response is the line of JSON that says the same. The id is what an EventSource goes on with.
func (e event) response() (history.Response, error) {
	switch e.kind {
	case "":
		return responseOf(fmt.Appendf(nil, `{"notifications":[%s],"last":%s}`, e.data, e.id))
	case "gap":
		return responseOf(fmt.Appendf(nil, `{"gap":%s,"last":%s}`, e.data, e.id))
	case "position":
		if same := `{"last":` + e.id + `}`; e.data != same {
			return history.Response{}, fmt.Errorf("%w: a position with the id %s and the data %s", errOdd, e.id, e.data)
		}
	}
	return responseOf([]byte(e.data))
}

// webSocket reads until it hangs up, or is told the end. On its way it may subscribe to a channel
// that nobody sends to, and unsubscribe again: its other channels go on where they are.
func (r *reader) webSocket(ctx context.Context, l *life) error {
	query := url.Values{}
	if r.present.byURL {
		query = r.query(r.cursor())
	}
	conn, _, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(l.httpURL, "http")+subscribe+"?"+query.Encode(), nil)
	if errors.Is(err, websocket.ErrBadHandshake) {
		return fmt.Errorf("%w: %w", errOdd, err)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if !r.present.byURL {
		frame := map[string]any{"channels": r.Channels, "heartbeat": heartbeat.String()}
		if after := r.cursor(); after != nil {
			frame["after"] = *after
		}
		if err := conn.WriteJSON(map[string]any{"subscribe": frame}); err != nil {
			return err
		}
	}
	for read := 1; ; read++ {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		response, err := responseOf(text)
		switch {
		case err != nil && r.opened && !hopeless(err):
			continue // a change that is refused changes nothing, and the end has a last before it
		case err != nil:
			return err
		case !r.take(ctx, response):
			return nil
		}
		if r.present.changes > 0 && read%r.present.changes == 0 {
			change := []string{"subscribe", "unsubscribe"}[read/r.present.changes%2]
			if err := conn.WriteJSON(map[string]any{change: map[string]any{"channels": []string{"nobody"}}}); err != nil {
				return err
			}
		}
	}
}
