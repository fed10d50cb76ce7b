package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

const (
	sentType   = "paid.é/<&>"
	headerName = "trace é"
	headerText = "<a>&\"b\"\t' \u2028"
)

// A way in sends a payload, with sentType and a header, to the channel of its name.
type wayIn struct {
	name   string
	json   func(channel, payload string) error
	binary func(channel string, data []byte) error
}

// waysIn are all of them.
func waysIn(t *testing.T, n *node, url string) []wayIn {
	headers := map[string]string{headerName: headerText}
	headersText := string(marshal(t, headers))
	conn := sql(t, url)
	exec := func(statement string, args ...any) error {
		_, err := conn.Exec(short(t), statement, args...)
		return err
	}
	grpc := func(m *postbusv1.Message) error {
		m.Type, m.Headers = sentType, headers
		_, err := n.rpc.Send(short(t), sendRequest(m))
		return err
	}
	request := func(channel, member, value string) string {
		return fmt.Sprintf(`{"messages":[{"channel":%s,"type":%s,%q:%s,"headers":%s}]}`, marshal(t, channel), marshal(t, sentType), member, value, headersText)
	}
	post := func(body string) error {
		code, answer := n.post(t, "/v1/send", body)
		if code != 200 {
			return fmt.Errorf("%d: %s", code, answer)
		}
		return nil
	}
	program := func(args ...string) error {
		got := run(t, command(t, append([]string{"send", "--server", n.grpcAddr, "--type", sentType, "--header", headerName + "=" + headerText}, args...)...))
		if got.code != 0 {
			return fmt.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		return nil
	}
	return []wayIn{
		{"gRPC",
			func(c, p string) error {
				return grpc(&postbusv1.Message{Channel: c, Body: &postbusv1.Message_Json{Json: p}})
			},
			func(c string, b []byte) error {
				return grpc(&postbusv1.Message{Channel: c, Body: &postbusv1.Message_Binary{Binary: b}})
			}},
		{"JSON",
			func(c, p string) error { return post(request(c, "payload", p)) },
			func(c string, b []byte) error { return post(request(c, "binary", string(marshal(t, b)))) }},
		{"postbus.send of a text",
			func(c, p string) error {
				return exec("SELECT postbus.send($1, $2::text, type => $3, headers => $4)", c, p, sentType, headersText)
			},
			func(c string, b []byte) error {
				return exec("SELECT postbus.send_binary($1, $2, type => $3, headers => $4)", c, b, sentType, headersText)
			}},
		{"postbus.send of a json",
			func(c, p string) error {
				return exec("SELECT postbus.send($1, $2::text::json, type => $3, headers => $4)", c, p, sentType, headersText)
			}, nil},
		{"postbus.send_messages",
			func(c, p string) error {
				return exec("SELECT postbus.send_messages($1::text::json)", request(c, "payload", p))
			},
			func(c string, b []byte) error {
				return exec("SELECT postbus.send_messages($1::text::json)", request(c, "binary", string(marshal(t, b))))
			}},
		{"postbus send",
			func(c, p string) error { return program("--", c, p) },
			func(c string, b []byte) error {
				file := filepath.Join(t.TempDir(), "data")
				must(t, os.WriteFile(file, b, 0o600))
				return program("--binary", file, "--", c)
			}},
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	must(t, e.Encode(v))
	return bytes.TrimSpace(b.Bytes())
}

// An arrival is a notification as a way out gives it.
type arrival struct {
	ID      int64             `json:"id"`
	Channel string            `json:"channel"`
	Type    string            `json:"type"`
	Payload json.RawMessage   `json:"payload"`
	Binary  []byte            `json:"binary"`
	Headers map[string]string `json:"headers"`
}

func arrivalOf(n *postbusv1.Notification) arrival {
	a := arrival{ID: n.Id, Channel: n.Channel, Type: n.Type, Headers: n.Headers}
	if body, ok := n.Body.(*postbusv1.Notification_Binary); ok {
		a.Binary = body.Binary
	} else {
		a.Payload = json.RawMessage(n.GetJson())
	}
	return a
}

// A page is a response in the JSON form.
type page struct {
	Notifications []arrival       `json:"notifications"`
	Last          int64           `json:"last"`
	Gap           json.RawMessage `json:"gap"`
}

func pageOf(t *testing.T, text []byte) page {
	t.Helper()
	var p page
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatalf("%.300s: %v", text, err)
	}
	return p
}

// waysOut are all ways to read count notifications of channels from the oldest on.
func waysOut(t *testing.T, n *node, url string) map[string]func(channels []string, count int) []arrival {
	pages := func(next func(after int64) page) func(int) []arrival {
		return func(count int) (got []arrival) {
			for after := int64(0); len(got) < count; {
				p := next(after)
				got, after = append(got, p.Notifications...), p.Last
			}
			return got
		}
	}
	return map[string]func([]string, int) []arrival{
		"gRPC Poll": func(channels []string, count int) (got []arrival) {
			for _, n := range read(t, n.rpc, count, channels...) {
				got = append(got, arrivalOf(n))
			}
			return got
		},
		"gRPC Subscribe": func(channels []string, count int) (got []arrival) {
			ctx, cancel := context.WithCancel(short(t))
			defer cancel()
			stream, err := n.rpc.Subscribe(ctx, &postbusv1.SubscribeRequest{Channels: channels, After: new(int64), Heartbeat: durationpb.New(longest)})
			must(t, err)
			for len(got) < count {
				resp, err := stream.Recv()
				must(t, err)
				for _, n := range resp.Notifications {
					got = append(got, arrivalOf(n))
				}
			}
			return got
		},
		"GET /v1/poll": func(channels []string, count int) []arrival {
			return pages(func(after int64) page {
				code, answer := n.fetch(t, "/v1/poll?"+query(channels, after))
				if code != 200 {
					t.Fatal(code, answer)
				}
				return pageOf(t, []byte(answer))
			})(count)
		},
		"POST /v1/poll": func(channels []string, count int) []arrival {
			return pages(func(after int64) page {
				code, answer := n.post(t, "/v1/poll", fmt.Sprintf(`{"channels":%s,"after":%d}`, marshal(t, channels), after))
				if code != 200 {
					t.Fatal(code, answer)
				}
				return pageOf(t, []byte(answer))
			})(count)
		},
		"lines": func(channels []string, count int) (got []arrival) {
			lines := n.lines(t, "/v1/subscribe?"+query(channels, 0))
			for len(got) < count {
				got = append(got, pageOf(t, []byte(lines.next())).Notifications...)
			}
			lines.close()
			return got
		},
		"events": func(channels []string, count int) (got []arrival) {
			events := n.events(t, "/v1/subscribe?"+query(channels, 0), "")
			for len(got) < count {
				got = append(got, pageOf(t, []byte(events.next())).Notifications...)
			}
			events.close()
			return got
		},
		"postbus.poll": func(channels []string, count int) []arrival {
			conn := sql(t, url)
			return pages(func(after int64) (p page) {
				until(t, "SQL sees the messages", func() bool {
					p = pageOf(t, []byte(ask[string](t, conn, "SELECT postbus.poll($1, $2, 100)::text", channels, after)))
					return len(p.Notifications) > 0
				})
				return p
			})(count)
		},
		"postbus tail": func(channels []string, count int) (got []arrival) {
			p := begin(t, command(t, append([]string{"tail", "--server", n.grpcAddr, "--after", "0", "--"}, channels...)...))
			p.await(t, &p.Stdout, fmt.Sprintf("%d lines", count), func(text string) bool { return strings.Count(text, "\n") >= count })
			p.stop(t)
			for line := range strings.Lines(p.Stdout.String()) {
				var a arrival
				must(t, json.Unmarshal([]byte(line), &a))
				got = append(got, a)
			}
			return got
		},
		"WebSocket": func(channels []string, count int) (got []arrival) {
			ws := dialSocket(t, n.base, query(channels, 0))
			for len(got) < count {
				got = append(got, pageOf(t, []byte(ws.next())).Notifications...)
			}
			return got
		},
	}
}
