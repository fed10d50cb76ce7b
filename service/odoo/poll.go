package odoo

import (
	"context"
	"encoding/json"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

const (
	pollWait = 50 * time.Second
	recent   = 50 * time.Second // what a client that knows nothing is given
)

// poll is /longpolling/poll. A gap must not end the wait, since clients ask again
// without a pause.
func (h *Handler) poll(ctx context.Context, p params) ([]byte, error) {
	req, err := readPoll(p)
	if err != nil {
		return nil, err
	}
	if err := h.core.CheckChannels(req.channels); err != nil {
		return nil, err
	}
	read := Poll{Channels: req.channels, Wait: pollWait}
	if req.peek {
		read.Wait = 0
	}
	if read.After, err = h.after(ctx, req.start); err != nil {
		return nil, err
	}
	batch, err := h.core.Poll(ctx, read)
	if err != nil {
		return nil, err
	}
	notifications := appendNotifications(nil, batch.Notifications)
	if !req.peek {
		return notifications, nil
	}
	out := append([]byte(`{"notifications":`), notifications...)
	out = append(out, `,"channels":[`...)
	for i, channel := range req.channels {
		if i > 0 {
			out = append(out, ',')
		}
		out = jsonform.AppendString(out, channel)
	}
	return append(out, `]}`...), nil
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
	if req.channels, err = readChannels(p["channels"]); err != nil {
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

// after returns the cursor of a start.
func (h *Handler) after(ctx context.Context, s start) (*bus.ID, error) {
	if !s.recent {
		return s.after, nil
	}
	id, err := h.core.IDBefore(ctx, recent)
	if err != nil {
		return nil, err
	}
	return &id, nil
}
