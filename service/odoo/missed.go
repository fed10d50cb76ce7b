package odoo

import (
	"context"
	"strconv"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// How clients of 18 find out that they may have missed something while they were away.

// hasMissedNotifications is /bus/has_missed_notifications of later builds of 18. Odoo looks
// whether that one notification is still there. Here the answer is true if something above
// it may be gone: retention took it, or a restore or a failover did. A client that has
// received nothing, with 0, has missed nothing that it could know of.
func (h *Handler) hasMissedNotifications(ctx context.Context, p params) ([]byte, error) {
	if err := p.require("has_missed_notifications", "last_notification_id"); err != nil {
		return nil, err
	}
	from, err := readLast(p["last_notification_id"])
	if err != nil {
		return nil, err
	}
	missed := false
	if from.after != nil && *from.after > 0 {
		if missed, err = h.missed(ctx, *from.after); err != nil {
			return nil, err
		}
	}
	return strconv.AppendBool(nil, missed), nil
}

func (h *Handler) missed(ctx context.Context, id bus.ID) (bool, error) {
	batch, err := h.core.Poll(ctx, Poll{After: &id, Gap: true})
	if err != nil || batch.Gap != nil {
		return err == nil, err
	}
	// A node that knows that a channel was quiet asks the table no more, and learns of no
	// gap in it.
	outlived, err := h.outlived.id(ctx)
	return id < outlived, err
}

// autovacuumInfo is /bus/get_autovacuum_info of early builds of 18, whose clients warn if
// lastcall is later than the moment at which they were cut off, and ask again from
// nextcall on. Retention removes all the time what is old enough: so lastcall is the moment
// up to which everything sent may be gone, and they ask each time.
func (h *Handler) autovacuumInfo(context.Context, params) ([]byte, error) {
	const form = `"2006-01-02 15:04:05"`
	now := time.Now().UTC()
	out := append([]byte(`{"id":1,"lastcall":`), now.Add(-h.opts.Retention).Format(form)...)
	out = append(out, `,"nextcall":`...)
	out = append(out, now.Format(form)...)
	return append(out, '}'), nil
}
