package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/groupcommit"
)

// Append stores sends in one statement, as groupcommit.Store says.
func (d *DB) Append(ctx context.Context, sends [][]bus.Message) ([]groupcommit.Result, []*bus.Notification, error) {
	b, err := newBatch(sends)
	if err != nil {
		return nil, nil, err
	}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("append %d messages: %w: %w", len(b.messages), bus.ErrUnavailable, err)
	}
	defer conn.Release()
	row, err := db.New(conn).AppendBatch(ctx, b.params)
	if err != nil {
		return nil, nil, outcome(len(b.messages), err)
	}
	if len(row.Ids) != len(b.messages) {
		return nil, nil, fmt.Errorf("append %d messages: %w: the database answered %d ids", len(b.messages), bus.ErrUnknownOutcome, len(row.Ids))
	}
	results, stored := b.results(row.Ids, row.SentAt, time.Now())
	d.memory.keep(stored)
	return results, stored, nil
}

// A batch is sends laid out as the columns of postbus.append.
type batch struct {
	sends    int
	messages []*bus.Message
	params   db.AppendBatchParams
}

func newBatch(sends [][]bus.Message) (*batch, error) {
	n, keyed := 0, false
	for _, messages := range sends {
		n += len(messages)
		for i := range messages {
			keyed = keyed || messages[i].Key != ""
		}
	}
	b := &batch{sends: len(sends), messages: make([]*bus.Message, 0, n)}
	p := &b.params
	p.Sends, p.Channels, p.Types = make([]int32, 0, n), make([]string, 0, n), make([]string, 0, n)
	p.Jsons, p.Bins, p.Headers, p.Ttls = make([]string, 0, n), make([][]byte, 0, n), make([]string, 0, n), make([]float64, 0, n)
	if keyed {
		p.Keys = make([]string, 0, n)
	}
	for number, messages := range sends {
		for i := range messages {
			m := &messages[i]
			headers, err := headersText(m.Headers)
			if err != nil {
				return nil, &groupcommit.DataError{Err: err}
			}
			b.messages = append(b.messages, m)
			p.Sends = append(p.Sends, int32(number))
			p.Channels, p.Types = append(p.Channels, m.Channel), append(p.Types, m.Type)
			p.Jsons, p.Bins = append(p.Jsons, jsonText(m)), append(p.Bins, m.Binary)
			p.Headers, p.Ttls = append(p.Headers, headers), append(p.Ttls, m.TTL.Seconds())
			if keyed {
				p.Keys = append(p.Keys, m.Key)
			}
		}
	}
	return b, nil
}

// jsonText returns m's JSON text; "" when it has a binary body.
func jsonText(m *bus.Message) string {
	switch {
	case m.Binary != nil:
		return ""
	case m.JSON == "":
		return "null"
	}
	return m.JSON
}

// headersText returns headers as a JSON object, "" when there are none.
func headersText(headers map[string]string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	text, err := json.Marshal(headers)
	if err != nil {
		return "", fmt.Errorf("headers: %w", err)
	}
	return string(text), nil
}

// results sorts the answer of postbus.append by sends. now is this machine's clock at about sentAt.
func (b *batch) results(ids []int64, sentAt, now time.Time) ([]groupcommit.Result, []*bus.Notification) {
	results := make([]groupcommit.Result, b.sends)
	stored := make([]*bus.Notification, 0, len(ids))
	for i, id := range ids {
		r, m := &results[b.params.Sends[i]], b.messages[i]
		switch {
		case id == 0:
			r.Busy = true
		case id < 0:
			r.Receipts = append(r.Receipts, bus.Receipt{ID: bus.ID(-id), Duplicate: true})
		default:
			r.Receipts = append(r.Receipts, bus.Receipt{ID: bus.ID(id)})
			n := &bus.Notification{
				ID: bus.ID(id), Channel: m.Channel, Type: m.Type, JSON: jsonText(m), Binary: m.Binary, Headers: m.Headers, SentAt: sentAt,
			}
			if m.TTL > 0 {
				n.Expires = now.Add(m.TTL)
			}
			stored = append(stored, n)
		}
	}
	return results, stored
}
