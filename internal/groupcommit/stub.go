package groupcommit

import (
	"context"

	"github.com/postbus/postbus/internal/bus"
)

type Options struct {
	Store Store
	// Stored is told what a batch stored before its senders are answered.
	Stored func([]*bus.Notification)
	// QueueMessages and QueueBytes bound what waits.
	QueueMessages, QueueBytes int
	// InFlight is the number of batches committed at once.
	InFlight int
}

type Writer struct{}

func New(o Options) *Writer { panic("stub") }

// Run commits until ctx ends and every accepted send is answered.
func (w *Writer) Run(ctx context.Context) error { panic("stub") }

type State struct {
	Queued, QueuedBytes      int
	Batches, Sends, Messages int64
}

func (w *Writer) State() State { panic("stub") }

// Send stores messages, all or none, and returns after their commit.
// Errors: ctx's, bus.ErrSendQueueFull, bus.ErrDraining, bus.ErrUnavailable, bus.ErrUnknownOutcome, bus.ErrKeyBusy, *DataError.
func (w *Writer) Send(ctx context.Context, messages []bus.Message) ([]bus.Receipt, error) {
	panic("stub")
}
