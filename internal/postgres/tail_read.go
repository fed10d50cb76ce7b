package postgres

import (
	"context"
	"time"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// The cuts of one Read.
const (
	tailRows  = 1000
	tailBytes = 4 << 20
)

// idleRows is how many rows a Read must show that nobody has asked for, and half of all, that
// the next one leaves such rows out. It costs some 50 µs more: worth it while messages flow.
const idleRows = 8

// Read returns the rows that req asks for. Of channels that it does not name it returns the
// ids alone when there were many of them in the last Read.
func (t *tail) Read(ctx context.Context, req dispatch.TailRequest) (read dispatch.Rows, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if t.idle && req.Channels != nil {
		read, err = t.readOf(ctx, req)
	} else {
		read, err = t.readAll(ctx, req)
	}
	if err != nil {
		return dispatch.Rows{}, unavailable("read the tail", err)
	}
	idle := len(read.Hollow) + unasked(read.Notifications, req.Channels)
	t.idle = idle >= idleRows && 2*idle >= len(read.Hollow)+len(read.Notifications)
	return read, nil
}

// unasked counts those of ns whose channel is not among channels, as far as it matters.
func unasked(ns []*bus.Notification, channels []string) (count int) {
	if len(ns) < idleRows {
		return 0
	}
	asked := make(map[string]bool, len(channels))
	for _, c := range channels {
		asked[c] = true
	}
	for _, n := range ns {
		if !asked[n.Channel] {
			count++
		}
	}
	return count
}

func (t *tail) readAll(ctx context.Context, req dispatch.TailRequest) (read dispatch.Rows, err error) {
	rows, err := t.queries.ReadTail(ctx, db.ReadTailParams{
		After: int64(req.After), Held: heldBits(req.After, req.Held), Rows: tailRows, Bytes: tailBytes,
	})
	if err != nil {
		return read, err
	}
	read.Notifications = make([]*bus.Notification, len(rows))
	now := time.Now()
	bytes := 0
	for i, r := range rows {
		n, err := row{r.ID, r.Channel, r.Type, r.Json, r.Bin, r.Headers, r.SentAt, r.Life}.notification(now)
		if err != nil {
			return read, err
		}
		read.Notifications[i], read.TrimmedTo = n, bus.ID(r.TrimmedTo)
		bytes += len(n.JSON) + len(n.Binary)
	}
	t.memory.keep(read.Notifications)
	read.Full = len(rows) == tailRows || bytes >= tailBytes
	return read, nil
}

// readOf reads the rows of req's channels, and of others the ids.
func (t *tail) readOf(ctx context.Context, req dispatch.TailRequest) (read dispatch.Rows, err error) {
	rows, err := t.queries.ReadTailOf(ctx, db.ReadTailOfParams{
		After: int64(req.After), Held: heldBits(req.After, req.Held), Channels: req.Channels, Rows: tailRows, Bytes: tailBytes,
	})
	if err != nil {
		return read, err
	}
	now := time.Now()
	bytes := 0
	for _, r := range rows {
		read.TrimmedTo = bus.ID(r.TrimmedTo)
		for _, id := range r.Hollow {
			read.Hollow = append(read.Hollow, bus.ID(id))
		}
		if r.ID == nil {
			break // nothing but the state
		}
		n, err := row{*r.ID, *r.Channel, *r.Type, r.Json, r.Bin, r.Headers, *r.SentAt, r.Life}.notification(now)
		if err != nil {
			return read, err
		}
		read.Notifications = append(read.Notifications, n)
		bytes += len(n.JSON) + len(n.Binary)
	}
	t.memory.keep(read.Notifications)
	if n := len(read.Hollow); n > 0 {
		t.memory.reached(read.Hollow[n-1])
	}
	if len(rows) > 0 && rows[0].Witness != nil {
		t.memory.keep([]*bus.Notification{{ID: bus.ID(*rows[0].Witness), SentAt: rows[0].WitnessSentAt.UTC()}})
	}
	read.Full = len(read.Hollow)+len(read.Notifications) == tailRows
	if bytes >= tailBytes { // what is behind the last of the rows was not sent
		read.Full = true
		last := read.Notifications[len(read.Notifications)-1].ID
		for len(read.Hollow) > 0 && read.Hollow[len(read.Hollow)-1] > last {
			read.Hollow = read.Hollow[:len(read.Hollow)-1]
		}
	}
	return read, nil
}

// heldBytes bounds what a read is told of the rows that it need not send: that many bits above
// after. Those above are sent again.
const heldBytes = 1 << 10

// heldBits returns which ids above after are those of held: the lowest bit of the first byte is
// for after + 1.
func heldBits(after bus.ID, held []*bus.Notification) []byte {
	var bits []byte
	for _, n := range held {
		at := int(n.ID - after - 1)
		if at/8 >= heldBytes {
			break
		}
		for len(bits) <= at/8 {
			bits = append(bits, 0)
		}
		bits[at/8] |= 1 << (at % 8)
	}
	return bits
}
