package odoo

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

const pollWait = 50 * time.Second

// broadcast is the channel that clients of 15 and later read without naming it.
const broadcast = "broadcast"

// poll is /longpolling/poll. Neither a gap nor anything else but notifications ends the
// wait before its time, since clients ask again without a pause. A cursor above every id
// that was ever given is taken for the present, not for the last 50 s: clients keep the
// highest id that they have seen, so that they would be given these again and again.
func (h *Handler) poll(ctx context.Context, p params, read func()) ([]byte, error) {
	req, err := readPoll(p)
	if err != nil {
		return nil, err
	}
	if err := h.core.CheckChannels(req.channels); err != nil {
		return nil, err
	}
	channels, sent := req.channels, []byte(nil)
	switch {
	case h.opts.Version >= 15:
		channels = withBroadcast(channels)
	case req.peek:
		sent = jsonform.AppendPayload(nil, string(p["channels"]))
	}
	read()
	asked := Poll{Channels: channels, Wait: pollWait}
	if req.peek {
		asked.Wait = 0
	}
	if asked.After, err = h.after(ctx, req.start); err != nil {
		return nil, err
	}
	batch, err := h.core.Poll(ctx, asked)
	if err != nil {
		return nil, err
	}
	encode := form15
	if h.opts.Version < 15 {
		encode = form13
	}
	notifications := appendNotifications(nil, batch.Notifications, encode)
	if !req.peek {
		return notifications, nil
	}
	if sent == nil {
		sent = h.appendChannels(nil, channels)
	}
	return peekResult(notifications, sent), nil
}

// A polling is what a poll asks for.
type polling struct {
	channels []string
	start
	peek bool
}

// readPoll reads the parameters as Odoo's server does, which takes what Python takes.
// What it does not know it ignores.
func readPoll(p params) (req polling, err error) {
	if err := p.require("poll", "channels", "last"); err != nil {
		return req, err
	}
	if req.channels, err = readChannels(p["channels"], "Exception"); err != nil {
		return req, err
	}
	if req.start, err = readLast(p["last"]); err != nil {
		return req, err
	}
	if raw, ok := p["options"]; ok && !isNull(raw) {
		var options map[string]json.RawMessage
		if json.Unmarshal(raw, &options) != nil {
			return req, raise("AttributeError", "'%s' object has no attribute 'get'", pythonType(raw))
		}
		peek, ok := options["peek"]
		req.peek = ok && pythonTrue(peek)
	}
	return req, nil
}

// withBroadcast returns what clients of 15 and later read: the channels they name and
// broadcast.
func withBroadcast(channels []string) []string {
	if slices.Contains(channels, broadcast) {
		return channels
	}
	return append(slices.Clip(channels), broadcast)
}

// after returns the cursor of a start.
func (h *Handler) after(ctx context.Context, s start) (*bus.ID, error) {
	if !s.recent {
		return s.after, nil
	}
	id, err := h.recent.id(ctx)
	if err != nil {
		return nil, err
	}
	return &id, nil
}

// peekResult returns the result of a poll that does not wait.
func peekResult(notifications, channels []byte) []byte {
	out := make([]byte, 0, len(notifications)+len(channels)+40)
	out = append(out, `{"notifications":`...)
	out = append(out, notifications...)
	out = append(out, `,"channels":`...)
	out = append(out, channels...)
	return append(out, '}')
}

// appendChannels appends channels as Odoo's server keeps them, each with its database.
func (h *Handler) appendChannels(dst []byte, channels []string) []byte {
	dst = append(dst, '[')
	for i, channel := range channels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '[')
		dst = jsonform.AppendString(dst, h.opts.Database)
		dst = append(dst, ',')
		dst = jsonform.AppendString(dst, channel)
		dst = append(dst, ']')
	}
	return append(dst, ']')
}
