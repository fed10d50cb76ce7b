//go:build unix

package idle

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/postbus/postbus/bench/internal/rig"
	"github.com/postbus/postbus/bench/internal/sink"
)

// Roles are those who hold many streams or requests.
func Roles() []rig.Role {
	return []rig.Role{
		{Name: "http-readers", Play: httpPart},
		{Name: "stream-client", Play: streamClient},
	}
}

// An httpPlan says what an HTTP part reads: each reader on a connection of its own.
type httpPlan struct {
	Target  string
	Readers int
	Path    string // "%d" in it is the reader's number, from 0
	Accept  string
	Poll    bool   // each answer has an end, and the next request its last
	Socket  bool   // a WebSocket
	First   string // what is sent on it, with "%d" as in Path; "": nothing
}

// httpPart holds HTTP/1.1 requests open until its input ends, and asks again when a poll
// is answered. Its argument is the plan. It is ready when all have asked once.
func httpPart(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("http-readers: %d arguments, must be 1", len(args))
	}
	var plan httpPlan
	if err := json.Unmarshal([]byte(args[0]), &plan); err != nil {
		return fmt.Errorf("http-readers: %w", err)
	}
	conns, sockets := make([]net.Conn, plan.Readers), make([]*websocket.Conn, plan.Readers)
	var dialing errgroup.Group
	dialing.SetLimit(50)
	for i := range conns {
		dialing.Go(func() (err error) {
			conns[i], err = (&net.Dialer{Timeout: rig.OpenPatience}).DialContext(ctx, "tcp", plan.Target)
			switch {
			case err != nil:
			case plan.Socket:
				sockets[i], err = plan.open(ctx, conns[i], i)
			default:
				err = plan.ask(conns[i], i, "")
			}
			return err
		})
	}
	err := dialing.Wait()
	for _, conn := range conns {
		if conn != nil {
			defer conn.Close()
		}
	}
	if err != nil {
		return err
	}
	failed, ended := make(chan error, 1), make(chan error, 1)
	for i, conn := range conns {
		go func() { // until the process ends
			err := plan.wait(conn, sockets[i], i)
			select {
			case failed <- fmt.Errorf("reader %d: %w", i, err):
			default:
			}
		}()
	}
	fmt.Fprintln(out, "ready readers")
	go func() { ended <- rig.Obey(in, rig.Free(out)) }()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return err
	}
}

// open makes a WebSocket of conn.
func (p httpPlan) open(ctx context.Context, conn net.Conn, reader int) (*websocket.Conn, error) {
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	socket, response, err := dialer.DialContext(ctx, "ws://"+p.Target+p.of(p.Path, reader), http.Header{"Origin": {"http://" + p.Target}})
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close() // has nothing
	if p.First != "" {
		err = socket.WriteMessage(websocket.TextMessage, []byte(p.of(p.First, reader)))
	}
	return socket, err
}

// of returns the reader's own form of text.
func (p httpPlan) of(text string, reader int) string {
	return strings.ReplaceAll(text, "%d", fmt.Sprint(reader))
}

// wait reads what comes on either until the connection ends.
func (p httpPlan) wait(conn net.Conn, socket *websocket.Conn, reader int) error {
	if socket == nil {
		return p.read(conn, reader)
	}
	for {
		if _, _, err := socket.NextReader(); err != nil { // pings are answered in it
			return err
		}
	}
}

// ask writes a request; after is empty in the first one.
func (p httpPlan) ask(conn net.Conn, reader int, after string) error {
	path := p.of(p.Path, reader)
	if after != "" {
		path += "&after=" + after
	}
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n\r\n", path, p.Target, p.Accept)
	return err
}

// read reads the answers until the connection ends.
func (p httpPlan) read(conn net.Conn, reader int) error {
	in := bufio.NewReaderSize(conn, 1<<10)
	for {
		last, err := p.answer(in)
		if err == nil {
			err = p.ask(conn, reader, last)
		}
		if err != nil {
			return err
		}
	}
}

// answer reads one answer. That of a stream ends with an error only.
func (p httpPlan) answer(in *bufio.Reader) (last string, err error) {
	response, err := sink.Answered(in)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		Last json.Number `json:"last"`
	}
	if p.Poll {
		err = json.NewDecoder(response.Body).Decode(&answer)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
	}
	if err == nil && !p.Poll {
		err = errors.New("the stream ended")
	}
	return answer.Last.String(), err
}

// startHTTP starts an HTTP part.
func startHTTP(ctx context.Context, plan httpPlan) (*rig.Part, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	return rig.StartPart(ctx, rig.OpenPatience, nil, "http-readers", string(text))
}
