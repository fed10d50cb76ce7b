package tests

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// A poll that finds nothing is no error: it answers before the caller's deadline, or at
// its timeout when that is first.
func TestPollAnswersEmptyBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	patient := startNode(t, url, nodeOptions{PollTimeout: 50 * time.Second})
	hasty := startNode(t, url, nodeOptions{PollTimeout: time.Second})
	last := patient.send(t, message("other", ""))[0].GetId()
	zero := durationpb.New(0)
	tests := []struct {
		name     string
		node     *node
		deadline time.Duration
		timeout  *durationpb.Duration
	}{
		{"deadline of 400 ms", patient, 400 * time.Millisecond, nil},
		{"deadline of 100 ms and a longer timeout", patient, 100 * time.Millisecond, durationpb.New(20 * time.Second)},
		{"deadline of 2 s", patient, 2 * time.Second, nil},
		{"the server's own timeout, far from the deadline", hasty, 10 * time.Minute, nil},
		{"timeout 0s", patient, 10 * time.Minute, zero},
	}
	for _, test := range tests {
		ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
		began := time.Now()
		response, err := test.node.rpc.Poll(ctx, &postbusv1.PollRequest{Channels: []string{"quiet"}, After: &last, Timeout: test.timeout})
		cancel()
		if err != nil || len(response.GetNotifications()) != 0 || response.GetGap() != nil || response.GetLast() < last {
			t.Errorf("%s: %v, %v after %v; want OK and empty, last at least %d", test.name, response, err, time.Since(began), last)
		}
		if took := time.Since(began); took > longest {
			t.Errorf("%s: answered after %v", test.name, took)
		}
	}
}

// G6: the messages of a Send, or of a transaction, come together and in their order, and
// one that is refused takes all of them along.
func TestMessagesOfOneSendAreAtomicAndInOrder(t *testing.T) {
	t.Parallel()
	const batch = 7
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "a", "b")
	watcher := sql(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()

	var senders sync.WaitGroup
	for sender := range 4 {
		conn := sql(t, url)
		senders.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				texts := numbered(fmt.Sprintf("s%d-%d-", sender, k), batch)
				if sender%2 == 0 {
					var messages []*postbusv1.Message
					for j, text := range texts {
						messages = append(messages, message([]string{"a", "b"}[j%2], text))
					}
					ids := n.send(t, messages...)
					for j := range ids[1:] {
						if ids[j].GetId() >= ids[j+1].GetId() {
							t.Errorf("ids %v do not ascend in the order sent", ids)
						}
					}
					messages[batch-1] = message("", "void")
					_, err := n.rpc.Send(short(t), sendRequest(messages...))
					if status.Code(err) != codes.InvalidArgument {
						t.Errorf("a Send whose last message is invalid: %v", err)
					}
					continue
				}
				statement := "BEGIN;"
				for j, text := range texts {
					statement += fmt.Sprintf(`SELECT postbus.send('%c', '"%s"');`, "ab"[j%2], text)
				}
				do(t, conn, statement+"COMMIT")
				if _, err := conn.Exec(short(t), statement+"SELECT postbus.send('', 'null');COMMIT"); err == nil {
					t.Error("an invalid message in a transaction was accepted")
				}
				do(t, conn, "ROLLBACK")
			}
		})
	}
	for ctx.Err() == nil {
		torn := ask[int64](t, watcher, `SELECT count(*) FROM (SELECT FROM postbus.bus
			GROUP BY substring(json FROM '^"(s[0-9]+-[0-9]+)-') HAVING count(*) <> 7) torn`)
		if torn != 0 {
			t.Errorf("%d sends are visible in part", torn)
			break
		}
	}
	senders.Wait()
	n.send(t, message("a", "end"))
	texts := reader.untilEnd()
	ascending(t, texts)
	counts := map[string]int{}
	for _, text := range texts {
		counts[text]++
		if counts[text] > 1 {
			t.Fatalf("%q came twice", text)
		}
	}
	if len(texts) == 0 || len(texts)%batch != 0 {
		t.Fatalf("%d messages, want a multiple of %d", len(texts), batch)
	}
}
