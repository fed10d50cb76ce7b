package tests

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// waiting polls on a goroutine of its own, and returns when the poll waits. The answer is
// empty if there was none.
func (n *node) waiting(t *testing.T, params string) (answer chan string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience) // longer than a poll
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.base+"/longpolling/poll", strings.NewReader(`{"params":`+params+`}`))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	open := n.service.Stats().OpenPolls
	answer = make(chan string, 1)
	go func() {
		defer close(answer)
		resp, err := n.web.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		check(t, err)
		answer <- string(text)
	}()
	until(t, "it waits", func() bool { return n.service.Stats().OpenPolls == open+1 })
	return answer
}

func TestOdooPollsWakeEachOneOnASend(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	const waiters = 3
	var answers []chan string
	for range waiters {
		answers = append(answers, n.waiting(t, `{"channels":["orders"],"last":0}`))
	}
	n.send(t, message("other", "for nobody"))
	n.send(t, message("orders", "paid"))
	for _, answer := range answers {
		// Not woken they would wait 50 s, longer than this test does.
		if got := <-answer; got != `{"jsonrpc":"2.0","id":null,"result":[{"id":2,"message":{"type":"","payload":"paid"}}]}` {
			t.Errorf("%s", got)
		}
	}
	idle := n.waiting(t, `{"channels":["orders"],"last":2}`)
	go n.stop()
	if got := <-idle; got != `{"jsonrpc":"2.0","id":null,"result":[]}` {
		t.Errorf("a poll that a stop cuts short: %s", got)
	}
}

// 15 reads broadcast for every client; 13 and 14 do not, and who names no channel waits.
func TestOdooBroadcastReachesClientsOf15Alone(t *testing.T) {
	t.Parallel()
	nodes := odooVersions(t, 13, 14, 15)
	answers := map[int]chan string{}
	for version, n := range nodes {
		answers[version] = n.waiting(t, `{"channels":[],"last":0}`)
	}
	nodes[13].send(t, message("broadcast", "all"))
	if got := <-answers[15]; got != `{"jsonrpc":"2.0","id":null,"result":[{"id":1,"message":{"type":"","payload":"all"}}]}` {
		t.Errorf("15: %s", got)
	}
	for _, version := range []int{13, 14} {
		n := nodes[version]
		read(t, n.rpc, 1, "broadcast") // it is here, too
		select {
		case got := <-answers[version]:
			t.Errorf("%d: %s", version, got)
		default:
		}
		if open := n.service.Stats().OpenPolls; open != 1 {
			t.Errorf("%d: %d polls are open", version, open)
		}
		go n.stop()
		<-answers[version]
	}
}

// Clients ask again without a pause, so that an answer that is early and empty would make
// them ask all the time: whatever else goes on, without a message it takes 50 s.
func TestOdooIsAnsweredEmptyAtItsTimeAlone(t *testing.T) {
	t.Parallel()
	n := startNode(t, pgtest.Database(t), nodeOptions{})
	conn := sql(t, n.url)
	begun := time.Now()
	var polls sync.WaitGroup
	for _, params := range []string{`{"channels":["a"],"last":0}`, `{"channels":["a"],"last":5000000}`, `{"channels":[],"last":-1}`, `{"channels":["a","a"],"last":null}`} {
		answer := n.waiting(t, params)
		polls.Go(func() {
			got, took := <-answer, time.Since(begun)
			if got != `{"jsonrpc":"2.0","id":null,"result":[]}` || took < 50*time.Second {
				t.Errorf("%s: %s after %v", params, got, took)
			}
		})
	}
	do(t, conn, "NOTIFY postbus", "NOTIFY postbus, 'a'", "BEGIN", "SELECT postbus.send('a', '1')", "ROLLBACK")
	n.send(t, message("b", "for nobody"))
	polls.Wait()
}
