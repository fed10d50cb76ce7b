package odoo

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

const (
	// patience is how long a walk tries to begin while the database is away, before its client
	// is told to come back later; pauses double from minPause to maxPause.
	patience = 10 * time.Second
	minPause = 50 * time.Millisecond
	maxPause = time.Second

	// walkBeat is how often the position of a quiet walk is taken.
	walkBeat = 50 * time.Second
)

// A walk is one walk of a socket along the bus, for one set of channels.
type walk struct {
	stop context.CancelFunc
	done chan struct{}
}

// A position is where a socket's walks have got to. The walk under way has it, and the
// reader between two of them.
type position struct {
	opened bool   // a walk has begun; until then asked is the last that counts
	asked  last   // of the latest walk, or of one before that never began
	given  bus.ID // the newest id that was given
	read   bus.ID // everything up to here was given, or not subscribed to
}

// subscribe replaces what the client reads. The ids of a socket never go down, nothing that
// it subscribes to is left out, and nothing comes twice
// (TestOdooSocketIDsNeverGoDownWhileChannelsChange).
func (s *socket) subscribe(to subscribing) {
	if w := s.walk; w != nil {
		w.stop()
		select {
		case <-w.done:
		case <-s.ctx.Done():
			return // its write may be stuck until the connection is closed
		}
	}
	if s.walk == nil || s.at.opened || to.last.id > s.at.asked.id {
		s.at.asked = to.last
	}
	channels := withBroadcast(to.channels)
	ctx, stop := context.WithCancel(s.ctx)
	w := &walk{stop, make(chan struct{})}
	s.walk = w
	go func() {
		defer close(w.done)
		if err := s.follow(ctx, channels); ctx.Err() == nil {
			s.end(s.walkEnding(err))
		}
	}()
}

// follow walks until ctx ends, or something else ends the socket.
func (s *socket) follow(ctx context.Context, channels []string) (err error) {
	defer recovered(&err)
	pause := minPause
	for began := time.Now(); ; {
		after, err := s.start(ctx)
		if err == nil {
			err = s.core.Walk(ctx, Walk{
				Channels: channels, After: &after, Heartbeat: walkBeat,
				Give:  func(b dispatch.Batch) error { return s.give(&b, new(any)) },
				Carry: s.give,
			})
		}
		switch {
		case time.Since(began) >= patience:
			return err
		case errors.Is(err, errAhead): // as if it had none
			s.at.asked = last{recent: true}
			continue
		case !errors.Is(err, bus.ErrUnavailable):
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, maxPause)
	}
}

// start returns where a walk begins: where the client says, but not below what it was given,
// and not above what was read for it: a last from there is believed no more than none. In
// between the channels that it had hold nothing; so those that it adds begin at the last
// notification that it has.
func (s *socket) start(ctx context.Context) (bus.ID, error) {
	at, asked := &s.at, s.at.asked
	recent := asked.recent || at.opened && asked.id > at.read
	if recent && at.given > 0 {
		return at.given, nil
	}
	from := asked.id
	if recent {
		var err error
		if from, err = s.recent.id(ctx); err != nil {
			return 0, err
		}
	}
	if !at.opened {
		return from, nil
	}
	return min(max(from, at.given), at.read), nil
}

// errAhead is the end of a walk from an id that the database never gave.
var errAhead = errors.New("the cursor is above every id")

// give gives a batch, on the goroutine of the walk or on one that carries for many. A gap has
// no place in the protocol, and neither has an empty array.
func (s *socket) give(b *dispatch.Batch, form *any) error {
	if b.Gap != nil && b.Gap.Reason == bus.Ahead && !s.at.opened {
		return errAhead
	}
	if ns := b.Notifications; len(ns) > 0 {
		prepared, _ := (*form).(*websocket.PreparedMessage)
		if prepared == nil {
			var err error
			prepared, err = websocket.NewPreparedMessage(websocket.TextMessage, appendNotifications(nil, ns, form15))
			if err != nil {
				return err
			}
			*form = prepared
		}
		if err := s.conn.WritePreparedMessage(prepared); err != nil {
			return err
		}
		s.at.given = ns[len(ns)-1].ID
	}
	s.at.opened = true
	s.at.read = max(b.Last, s.at.given)
	return nil
}
