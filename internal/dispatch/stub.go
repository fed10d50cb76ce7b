package dispatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

type Options struct {
	Store  Store
	Logger *slog.Logger
	// Fallback is the longest sleep without a read. Default 1 s.
	Fallback time.Duration
	// WindowBytes bounds the shared window. Default 64 MiB.
	WindowBytes int
	// PageReaders bounds the reads of the table at once. Default 8.
	PageReaders int
}

type Dispatcher struct{}

func New(o Options) *Dispatcher { panic("stub") }

// Run follows the tail until ctx ends; it returns nil then. Reconnects by itself.
func (d *Dispatcher) Run(ctx context.Context) error { panic("stub") }

// Ready is closed when everything committed before the start is settled.
func (d *Dispatcher) Ready() <-chan struct{} { panic("stub") }

// Drain ends every Next with its last and bus.ErrDraining, and refuses Subscribe.
func (d *Dispatcher) Drain() { panic("stub") }

// Offer takes notifications that this node has just committed.
func (d *Dispatcher) Offer(ns []*bus.Notification) { panic("stub") }

type State struct {
	Connected      bool          // the tail is being followed
	Ready          bool          // admitted "from now" readers
	Sleeping       bool          // armed, blocked on LISTEN
	Listening      bool          // LISTEN works; false: polling
	Pos            bus.ID        // every id up to here is settled
	Head           bus.ID        // highest id seen
	Holders        []Holder      // stuck ones: transactions that hold the tail up
	Held           time.Duration // since when the tail is held up; 0: not
	Subscriptions  int
	WindowBytes    int
	WindowMessages int
	Reconnects     int64
	Pages          int64
	Delivered      int64
	Error          string // why not connected
}

func (d *Dispatcher) State() State { panic("stub") }

// Subscribe begins at after; nil is from now on, 0 from the oldest retained.
// Errors: bus.ErrUnavailable, bus.ErrDraining.
func (d *Dispatcher) Subscribe(ctx context.Context, channels []string, after *bus.ID) (*Subscription, error) {
	panic("stub")
}

// A Subscription is used by one goroutine at a time, but Close.
type Subscription struct{}

// A Batch is one step of a Subscription.
type Batch struct {
	Notifications []*bus.Notification
	Last          bus.ID
	Gap           *bus.Gap
}

// Next returns what has come after the last call, at most max notifications and about
// 1 MiB, at once if there is something (or a gap), else when something comes,
// else an empty Batch with the present Last after wait.
// When ctx ends: ctx's error. When the node drains: a Batch with Last, and bus.ErrDraining.
// A failed read of the table: bus.ErrUnavailable; the Subscription can be asked again.
func (s *Subscription) Next(ctx context.Context, max int, wait time.Duration) (Batch, error) {
	panic("stub")
}

// Last is the cursor of what has been given so far.
func (s *Subscription) Last() bus.ID { panic("stub") }

func (s *Subscription) Close() { panic("stub") }
