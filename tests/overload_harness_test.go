package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// dial opens a gRPC connection of its own, now.
func (s *served) dial(t *testing.T, opts ...grpc.DialOption) (*grpc.ClientConn, postbusv1.BusServiceClient) {
	t.Helper()
	conn, err := grpc.NewClient(s.grpcAddr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	conn.Connect()
	return conn, postbusv1.NewBusServiceClient(conn)
}

// raw opens a connection and writes text on it.
func raw(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(addr, "http://"))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(longest)))
	_, err = io.WriteString(conn, text)
	must(t, err)
	return conn
}

// ended waits until the server has closed the connection, and returns what it said.
func ended(t *testing.T, what string, conn net.Conn) string {
	t.Helper()
	said, err := io.ReadAll(conn)
	if timeout := net.Error(nil); err != nil && errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s: still open after %v", what, longest)
	}
	return string(said)
}

// subscribed opens a stream of channel and reads its first response.
func subscribed(t *testing.T, bus postbusv1.BusServiceClient, channel string) grpc.ServerStreamingClient[postbusv1.SubscribeResponse] {
	t.Helper()
	stream, err := bus.Subscribe(t.Context(), &postbusv1.SubscribeRequest{Channels: []string{channel}})
	must(t, err)
	_, err = stream.Recv()
	must(t, err)
	return stream
}

// undisturbed sends by SQL, which no bound of the node can refuse, and wants the stream
// to deliver it.
func undisturbed(t *testing.T, url, channel string, stream grpc.ServerStreamingClient[postbusv1.SubscribeResponse]) {
	t.Helper()
	do(t, sql(t, url), fmt.Sprintf("SELECT postbus.send('%s', '1')", channel))
	for {
		response, err := stream.Recv()
		must(t, err)
		if len(response.Notifications) > 0 {
			return
		}
	}
}

// exhausted checks that a call was refused at a bound, in our words.
func exhausted(t *testing.T, err error, want string) {
	t.Helper()
	retry := false
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			retry = info.GetRetryDelay().AsDuration() > 0
		}
	}
	if status.Code(err) != codes.ResourceExhausted || reason(err) != want || !retry {
		t.Errorf("%v, reason %q, RetryInfo %v; want RESOURCE_EXHAUSTED %s with RetryInfo", err, reason(err), retry, want)
	}
}

// asked makes a request of the HTTP side on a connection of its own.
func (s *served) asked(t *testing.T, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(short(t), method, s.httpURL+path, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := web.Do(req)
	must(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(answer)
}

// told429 checks that a request was refused at a bound, in the house's form.
func told429(t *testing.T, resp *http.Response, answer, want string) {
	t.Helper()
	var form struct {
		Error struct{ Status, Reason string }
	}
	if err := json.Unmarshal([]byte(answer), &form); err != nil || resp.StatusCode != 429 || form.Error.Reason != want ||
		form.Error.Status != "RESOURCE_EXHAUSTED" || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %v %.300s, want 429 %s", resp.Status, resp.Header, answer, want)
	}
}

// metric reads one metric.
func (s *served) metric(t *testing.T, name string) int {
	t.Helper()
	_, page := s.get(t, "/metrics")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no metric %s", name)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	must(t, err)
	return int(value)
}

// faults reads how many requests were refused for a reason.
func (s *served) faults(t *testing.T, reason string) int {
	t.Helper()
	return s.metric(t, `postbus_faults_total{reason="`+reason+`"}`)
}

// quiet checks that nobody was called for help: what clients do is no error of the server.
func (s *served) quiet(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(s.Stderr.String()) {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, `"level":"WARN"`) || !strings.HasPrefix(line, "{") {
			t.Errorf("logged: %.500s", line)
		}
	}
}

// bytesCall sends bytes as they are.
var bytesCall = grpc.ForceCodec(bytesCodec{})

type bytesCodec struct{}

// Marshal implements encoding.Codec.
func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal implements encoding.Codec.
func (bytesCodec) Unmarshal([]byte, any) error { return nil }

// Name implements encoding.Codec.
func (bytesCodec) Name() string { return "proto" }
