//go:build unix

package main

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
	"time"

	"golang.org/x/sync/errgroup"
)

// An httpPlan says what an HTTP part reads: each reader on a connection of its own.
type httpPlan struct {
	Target  string
	Readers int
	Path    string // "%d" in it is the reader's number, from 0
	Accept  string
	Poll    bool // each answer has an end, and the next request its last
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
	conns := make([]net.Conn, plan.Readers)
	var dialing errgroup.Group
	dialing.SetLimit(50)
	for i := range conns {
		dialing.Go(func() (err error) {
			conns[i], err = (&net.Dialer{Timeout: openPatience}).DialContext(ctx, "tcp", plan.Target)
			if err == nil {
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
			err := plan.read(conn, i)
			select {
			case failed <- fmt.Errorf("reader %d: %w", i, err):
			default:
			}
		}()
	}
	fmt.Fprintln(out, "ready readers")
	go func() { ended <- obey(in, out) }()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return err
	}
}

// ask writes a request; after is empty in the first one.
func (p httpPlan) ask(conn net.Conn, reader int, after string) error {
	path := strings.ReplaceAll(p.Path, "%d", fmt.Sprint(reader))
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
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return "", fmt.Errorf("%s: %s", response.Status, text)
	}
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
func startHTTP(ctx context.Context, plan httpPlan) (*part, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	return startPart(ctx, openPatience, nil, "http-readers", string(text))
}

// served reports whether a GET of path is answered with anything but "not acceptable".
func served(ctx context.Context, addr, path, accept string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return false, err
	}
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	return response.StatusCode != http.StatusNotAcceptable, nil
}
