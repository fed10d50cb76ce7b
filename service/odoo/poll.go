package odoo

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/jsonform"
)

const pollWait = 50 * time.Second

// broadcast is the channel that clients of 15 and later read without naming it.
const broadcast = "broadcast"

// beginPoll is /longpolling/poll. Neither a gap nor anything else but notifications ends
// the wait before its time, since clients ask again without a pause. A cursor above every
// id that was ever given is taken for the present, not for the last 50 s: clients keep the
// highest id that they have seen, so that they would be given these again and again.
func (h *Handler) beginPoll(w http.ResponseWriter, r *http.Request) *Pause {
	id, p, done, ok := h.readRPC(w, r)
	if !ok {
		return nil
	}
	defer done()
	ctx := r.Context()
	polling, result, err := h.openPoll(ctx, p)
	if err != nil {
		h.answer(w, r, id, nil, err)
		return nil
	}
	return &Pause{
		Wait: func() { err = polling.Await(ctx) },
		End: func() {
			if err != nil {
				h.answer(w, r, id, nil, err)
				return
			}
			h.answer(w, r, id, result(polling.Batch()), nil)
		},
	}
}

// openPoll opens the poll that p asks for, and returns what makes its result.
func (h *Handler) openPoll(ctx context.Context, p params) (_ Polling, result func(dispatch.Batch) []byte, err error) {
	req, err := readPoll(p)
	if err != nil {
		return nil, nil, err
	}
	if err := h.core.CheckChannels(req.channels); err != nil {
		return nil, nil, err
	}
	asked := Poll{Channels: req.channels, Wait: pollWait}
	written := form13
	if h.opts.Version >= 15 {
		asked.Channels, written = withBroadcast(req.channels), form15
	}
	result = func(b dispatch.Batch) []byte { return appendNotifications(nil, b.Notifications, written) }
	if req.peek {
		var channels []byte
		if h.opts.Version >= 15 {
			channels = h.appendChannels(nil, asked.Channels)
		} else {
			channels = jsonform.AppendPayload(nil, string(p["channels"]))
		}
		result = func(b dispatch.Batch) []byte {
			return peekResult(appendNotifications(nil, b.Notifications, written), channels)
		}
		asked.Wait = 0
	}
	if asked.After, err = h.after(ctx, req.start); err != nil {
		return nil, nil, err
	}
	opened, err := h.core.Open(ctx, asked)
	return opened, result, err
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
