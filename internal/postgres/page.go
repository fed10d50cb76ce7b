package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// A page by the index of channels looks for a whole page in each of them, since all of it may be of one. Of many channels that are busy, nearly
// everything that it finds is found again for the next page: so the next rows of the log are looked at first, and make a page if that
// takes no more looks for a row than there are channels (TestPageOfManyChannelsReadsLittleMoreThanItSends).
const (
	manyChannels = 32  // more are many
	looksPerPage = 10  // rows looked at, times those that fit the page
	looksPerRow  = 100 // are not too many, of however many channels
)

// ReadPage reads one page of channels' notifications, as dispatch.Store says. What has expired is left out. The page and its
// TrimmedTo are of one snapshot: a page that retention was faster than shows it.
func (d *DB) ReadPage(ctx context.Context, req dispatch.PageRequest) (dispatch.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if len(req.Channels) > manyChannels {
		if page, enough, err := d.readAmongAll(ctx, req); enough || err != nil {
			return page, err
		}
	}
	rows, err := d.queries.ReadPage(ctx, db.ReadPageParams{
		Channels: req.Channels, After: int64(req.After), Until: int64(req.Until), Rows: int32(req.Max), Bytes: int64(req.MaxBytes),
	})
	if err != nil {
		return dispatch.Page{}, unavailable("read a page", err)
	}
	return pageOf(rows, req)
}

// readAmongAll looks for a page among the next rows of all channels. It is not enough when there is little of it; more may be elsewhere.
func (d *DB) readAmongAll(ctx context.Context, req dispatch.PageRequest) (page dispatch.Page, enough bool, err error) {
	looks := req.Max * looksPerPage
	among, err := d.queries.ReadPageAmongAll(ctx, db.ReadPageAmongAllParams{
		Channels: req.Channels, After: int64(req.After), Until: int64(req.Until), Rows: int32(req.Max), Bytes: int64(req.MaxBytes), Looks: int32(looks),
	})
	if err != nil {
		return page, false, unavailable("read a page", err)
	}
	rows := make([]db.ReadPageRow, len(among))
	for i, r := range among {
		rows[i] = db.ReadPageRow(r)
	}
	if page, err = pageOf(rows, req); err != nil {
		return page, false, err
	}
	least := max(1, looks/min(looksPerRow, len(req.Channels)))
	return page, rows[0].Found >= int64(least) || page.Scanned == req.Until, nil
}

func pageOf(rows []db.ReadPageRow, req dispatch.PageRequest) (dispatch.Page, error) {
	var page dispatch.Page
	if len(rows) == 0 {
		return page, unavailable("read a page", errors.New("the table of the state has no row"))
	}
	now := time.Now()
	for _, r := range rows {
		page.TrimmedTo, page.Scanned = bus.ID(r.TrimmedTo), bus.ID(r.LookedTo)
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
