package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
)

// asProgram makes this test binary be the program: its exit codes, signals and
// streams are then the real ones.
const asProgram = "POSTBUS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// program returns the program with args, not started, and killed when it takes too long.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", serverVariable+"=")
	return cmd
}

// result runs cmd and returns its exit code and what it wrote.
func result(t *testing.T, cmd *exec.Cmd) (exit int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// A script answers as a test says.
type script struct {
	postbusv1.UnimplementedBusServiceServer
	send      func(*postbusv1.Message) (*postbusv1.SendResult, error)
	subscribe func(*postbusv1.SubscribeRequest, grpc.ServerStreamingServer[postbusv1.SubscribeResponse]) error
}

func (s *script) Send(_ context.Context, r *postbusv1.SendRequest) (*postbusv1.SendResponse, error) {
	result, err := s.send(r.GetMessages()[0])
	if err != nil {
		return nil, err
	}
	return &postbusv1.SendResponse{Results: []*postbusv1.SendResult{result}}, nil
}

func (s *script) Subscribe(r *postbusv1.SubscribeRequest, stream grpc.ServerStreamingServer[postbusv1.SubscribeResponse]) error {
	return s.subscribe(r, stream)
}

// play serves s until the test ends and returns its address.
func play(t *testing.T, s *script) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	postbusv1.RegisterBusServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func TestMisuseIsOneLineAndExitCode2(t *testing.T) {
	for _, c := range []struct {
		says string
		args []string
	}{
		{"a command is required", nil},
		{`unknown command "sned", did you mean send?`, []string{"sned"}},
		{"unknown flag: --tpye", []string{"send", "a", "1", "--tpye", "x"}},
		{"accepts between 1 and 2", []string{"send"}},
		{"a string needs quotes", []string{"send", "a", "paid"}},
		{"not UTF-8", []string{"send", "a", "\"\xff\""}},
		{"--ttl: 0s, must be above 0s", []string{"send", "a", "1", "--ttl", "0s"}},
		{"--header: \"x\" is not NAME=VALUE", []string{"send", "a", "1", "--header", "x"}},
		{"--header: \"x\" is given twice", []string{"send", "a", "1", "--header", "x=1", "--header", "x=2"}},
		{"PAYLOAD and --binary are both given", []string{"send", "a", "1", "--binary", "f"}},
		{"requires at least 1 arg", []string{"tail"}},
		{"--after: -1, must be 0 or more", []string{"tail", "a", "--after", "-1"}},
		{"takes no arguments", []string{"version", "x"}},
	} {
		exit, stdout, stderr := result(t, program(t, c.args...))
		if exit != exitMisuse || stdout != "" || !strings.HasPrefix(stderr, "postbus: ") || !strings.Contains(stderr, c.says) ||
			strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q, want 2 and one line that says %q", c.args, exit, stderr, c.says)
		}
	}
}

func TestServersRefusalOfTheMessageIsMisuse(t *testing.T) {
	address := play(t, &script{send: func(*postbusv1.Message) (*postbusv1.SendResult, error) {
		return nil, status.Error(codes.InvalidArgument, "messages[0].channel: 300 bytes, at most 255")
	}})
	exit, _, stderr := result(t, program(t, "send", "a", "1", "--server", address))
	if want := "postbus: INVALID_ARGUMENT: messages[0].channel: 300 bytes, at most 255\n"; exit != exitMisuse || stderr != want {
		t.Errorf("exit %d, %q, want 2 and %q", exit, stderr, want)
	}
}

func TestFailureIsOneLineAndExitCode1(t *testing.T) {
	exit, stdout, stderr := result(t, program(t, "send", "a", "--binary", "/no/such/file"))
	if exit != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "/no/such/file") {
		t.Errorf("exit %d, %q", exit, stderr)
	}
}

func TestSendPrintsTheIDAlone(t *testing.T) {
	got := make(chan *postbusv1.Message, 1)
	address := play(t, &script{send: func(m *postbusv1.Message) (*postbusv1.SendResult, error) {
		got <- m
		return &postbusv1.SendResult{Id: 42}, nil
	}})
	cmd := program(t, "send", "orders", "-", "--type", "paid", "--header", "a=b=c", "--ttl", "1h")
	cmd.Env = append(cmd.Env, serverVariable+"="+address)
	cmd.Stdin = strings.NewReader(`{"order": 1e400}`)
	if exit, stdout, stderr := result(t, cmd); exit != 0 || stdout != "42\n" || stderr != "" {
		t.Fatalf("exit %d, stdout %q, stderr %q", exit, stdout, stderr)
	}
	m := <-got
	if m.GetChannel() != "orders" || m.GetJson() != `{"order": 1e400}` || m.GetType() != "paid" || m.GetHeaders()["a"] != "b=c" ||
		m.GetTtl().AsDuration() != time.Hour || m.GetKey() == "" {
		t.Errorf("sent %v", m)
	}
}

func TestSendTellsADuplicateAside(t *testing.T) {
	address := play(t, &script{send: func(m *postbusv1.Message) (*postbusv1.SendResult, error) {
		return &postbusv1.SendResult{Id: 7, Duplicate: m.GetKey() == "k"}, nil
	}})
	exit, stdout, stderr := result(t, program(t, "send", "a", "--key", "k", "--server", address))
	if exit != 0 || stdout != "7\n" || !strings.Contains(stderr, "duplicate") {
		t.Errorf("exit %d, stdout %q, stderr %q", exit, stdout, stderr)
	}
}

// TestTailPrintsLinesAcrossAReconnection sees a payload's tokens, bytes, a gap, a
// break that is told on standard error, and an orderly end by SIGTERM.
func TestTailPrintsLinesAcrossAReconnection(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC))
	address := play(t, &script{subscribe: func(r *postbusv1.SubscribeRequest, stream grpc.ServerStreamingServer[postbusv1.SubscribeResponse]) error {
		if r.GetAfter() == 40 {
			if err := stream.Send(&postbusv1.SubscribeResponse{Last: 42, Notifications: []*postbusv1.Notification{{
				Id: 42, Channel: "a<b", Type: "paid", SentAt: at,
				Body: &postbusv1.Notification_Json{Json: "{\"x\": 1.50,\n\"x\": \"<\\u0041&\"}"},
			}}}); err != nil {
				return err
			}
			s, _ := status.New(codes.Unavailable, "draining").WithDetails(&errdetails.ErrorInfo{Domain: "postbus", Reason: "DRAINING"})
			return s.Err()
		}
		if err := stream.Send(&postbusv1.SubscribeResponse{
			Last: 51, Gap: &postbusv1.Gap{Reason: postbusv1.Gap_REASON_TRIMMED, After: r.GetAfter(), Until: 50},
			Notifications: []*postbusv1.Notification{{
				Id: 51, Channel: "a", SentAt: at, Headers: map[string]string{"h": "<v>"}, Body: &postbusv1.Notification_Binary{Binary: []byte{0x89, 'P'}},
			}},
		}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}})
	cmd := program(t, "tail", "a", "--after", "40", "--server", address)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for _, want := range []string{
		`{"id":42,"channel":"a<b","type":"paid","payload":{"x":1.50,"x":"<\u0041&"},"headers":{},"sent_at":"2026-01-02T03:04:05.678Z"}`,
		`{"gap":{"reason":"REASON_TRIMMED","after":42,"until":50}}`,
		`{"id":51,"channel":"a","type":"","binary":"iVA=","headers":{"h":"<v>"},"sent_at":"2026-01-02T03:04:05.678Z"}`,
	} {
		if !lines.Scan() {
			t.Fatalf("ended before %s: %v", want, lines.Err())
		}
		if lines.Text() != want {
			t.Errorf("got  %s\nwant %s", lines.Text(), want)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(stdout); err != nil || len(rest) > 0 {
		t.Errorf("then wrote %q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended by SIGTERM with %v", err)
	}
	if s := stderr.String(); !strings.Contains(s, "postbus: UNAVAILABLE: draining; reconnecting in ") || !strings.Contains(s, "reconnected\n") {
		t.Errorf("stderr %q", s)
	}
}

func TestTailEndsQuietlyOnABrokenPipe(t *testing.T) {
	address := play(t, &script{subscribe: func(_ *postbusv1.SubscribeRequest, stream grpc.ServerStreamingServer[postbusv1.SubscribeResponse]) error {
		for id := int64(1); ; id++ {
			if err := stream.Send(&postbusv1.SubscribeResponse{Last: id, Notifications: []*postbusv1.Notification{{
				Id: id, Body: &postbusv1.Notification_Json{Json: "1"},
			}}}); err != nil {
				return err
			}
		}
	}})
	cmd := program(t, "tail", "a", "--server", address)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("ended with %v, stderr %q", err, &stderr)
	}
}

func TestHelpOfEachCommandHasAnExample(t *testing.T) {
	for _, name := range []string{"send", "tail", "version"} {
		exit, stdout, stderr := result(t, program(t, name, "--help"))
		if exit != 0 || stderr != "" || !strings.Contains(stdout, "Examples:\n  postbus "+name) {
			t.Errorf("%s --help: exit %d, %q %q", name, exit, stdout, stderr)
		}
	}
}
