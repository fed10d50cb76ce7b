package odoo

import (
	"context"

	"github.com/postbus/postbus/internal/bus"
)

// peekNotifications is /websocket/peek_notifications, by which clients of 16 and later
// poll where a WebSocket does not get through. It never waits. There are no sessions, so
// that is_first_poll makes no difference.
func (h *Handler) peekNotifications(ctx context.Context, p params) ([]byte, error) {
	if err := p.require("peek_notifications", "channels", "last"); err != nil {
		return nil, err
	}
	channels, err := readChannels(p["channels"], "ValueError")
	if err != nil {
		return nil, err
	}
	if kind := pythonType(p["last"]); kind != "int" && kind != "float" && kind != "bool" {
		return nil, raise("TypeError", "'>' not supported between instances of '%s' and 'int'", kind)
	}
	from, err := readLast(p["last"])
	if err != nil {
		return nil, err
	}
	if err := h.core.CheckChannels(channels); err != nil {
		return nil, err
	}
	channels = withBroadcast(channels)
	notifications, err := h.peek(ctx, channels, from)
	if err != nil {
		return nil, err
	}
	return peekResult(appendNotifications(nil, notifications, form15), h.appendChannels(nil, channels)), nil
}

// peek returns what there is. A cursor above every id that was ever given is taken for 0,
// the last 50 s.
func (h *Handler) peek(ctx context.Context, channels []string, from start) ([]*bus.Notification, error) {
	after, err := h.after(ctx, from)
	if err != nil {
		return nil, err
	}
	batch, err := h.core.Poll(ctx, Poll{Channels: channels, After: after, Gap: true})
	if err != nil || batch.Gap == nil || batch.Gap.Reason != bus.Ahead && len(batch.Notifications) > 0 {
		return batch.Notifications, err
	}
	after = &batch.Last // behind the gap
	if batch.Gap.Reason == bus.Ahead {
		if after, err = h.after(ctx, start{recent: true}); err != nil {
			return nil, err
		}
	}
	batch, err = h.core.Poll(ctx, Poll{Channels: channels, After: after})
	return batch.Notifications, err
}
