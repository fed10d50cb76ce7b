package service_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A message on a channel with many long-polls is read from the table once at most, whoever
// was waiting and whoever asks again with the new last.
func TestMessageForManyLongPollsCostsOneQuery(t *testing.T) {
	t.Parallel()
	polls := 300
	if os.Getenv("POSTBUS_TEST_LONG") != "" {
		polls = 5_000
	}
	url := pgtest.Database(t)
	n := start(t, url, nodeOptions{})
	n.send(t, jsonMessage("c", "0"))
	waiting := make([]*rawPoll, polls)
	for i := range waiting {
		waiting[i] = n.rawPoll(t)
		waiting[i].ask("")
	}
	for round := range 3 {
		until(t, "all wait", func() bool { return n.service.Stats().OpenPolls == int64(polls) })
		before := n.dispatcher.State()
		sent := n.send(t, jsonMessage("c", fmt.Sprint(round)))
		var all sync.WaitGroup
		for _, p := range waiting {
			all.Go(func() {
				if id := p.answer(t); id != sent {
					t.Errorf("round %d: answered %d, want %d", round, id, sent)
				}
				p.ask(fmt.Sprint(sent))
			})
		}
		all.Wait()
		until(t, "all wait again", func() bool { return n.service.Stats().OpenPolls == int64(polls) })
		if pages := n.dispatcher.State().Pages - before.Pages; pages > 1 {
			t.Errorf("round %d: %d pages were read from the table for %d polls, at most 1", round, pages, polls)
		}
	}
	if answered := n.service.Stats().Polls; answered != int64(3*polls) {
		t.Errorf("%d polls were answered, want %d", answered, 3*polls)
	}
}

// A rawPoll is a poll again and again on a connection of its own.
type rawPoll struct {
	conn net.Conn
	r    *bufio.Reader
	host string
}

func (n *node) rawPoll(t *testing.T) *rawPoll {
	t.Helper()
	host := strings.TrimPrefix(n.http.URL, "http://")
	conn, err := net.Dial("tcp", host)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &rawPoll{conn, bufio.NewReaderSize(conn, 1<<10), host}
}

// ask makes a request; what fails is met by answer.
func (p *rawPoll) ask(after string) {
	if after != "" {
		after = "&after=" + after
	}
	_, _ = fmt.Fprintf(p.conn, "GET /v1/poll?channels=c&timeout=50s%s HTTP/1.1\r\nHost: %s\r\n\r\n", after, p.host)
}

// answer returns the id of the one notification.
func (p *rawPoll) answer(t *testing.T) int64 {
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	var got struct{ Notifications []struct{ ID int64 } }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || len(got.Notifications) != 1 {
		t.Errorf("%s: %+v, %v", resp.Status, got, err)
		return 0
	}
	return got.Notifications[0].ID
}
