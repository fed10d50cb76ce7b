package postgres

import (
	"context"
	"time"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// ReadPage reads one page of channels' notifications, as dispatch.Store says. What has expired is left out. The page and its
// TrimmedTo are of one snapshot: a page that retention was faster than shows it.
func (d *DB) ReadPage(ctx context.Context, req dispatch.PageRequest) (dispatch.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := d.queries.ReadPage(ctx, db.ReadPageParams{
		Channels: req.Channels, After: int64(req.After), Until: int64(req.Until), Rows: int32(req.Max), Bytes: int64(req.MaxBytes),
	})
	if err != nil {
		return dispatch.Page{}, unavailable("read a page", err)
	}
	page := dispatch.Page{Scanned: req.Until}
	now := time.Now()
	for _, r := range rows {
		page.TrimmedTo = bus.ID(r.TrimmedTo)
		if r.ID == nil {
			break // nothing but the state
		}
		n, err := row{*r.ID, *r.Channel, *r.Type, r.Json, r.Bin, r.Headers, *r.SentAt, r.Life}.notification(now)
		if err != nil {
			return dispatch.Page{}, unavailable("read a page", err)
		}
		page.Notifications = append(page.Notifications, n)
	}
	if got := len(page.Notifications); got > 0 && (got >= req.Max || int64(got) < rows[0].Found) {
		page.Scanned = page.Notifications[got-1].ID
	}
	return page, nil
}

// IDBefore returns the highest settled id that was sent longer than age ago; 0 if there is none.
func (d *DB) IDBefore(ctx context.Context, age time.Duration) (bus.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	id, err := d.queries.IDBefore(ctx, age.Seconds())
	if err != nil {
		return 0, unavailable("find the id of a time", err)
	}
	return bus.ID(id), nil
}
