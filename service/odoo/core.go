package odoo

import (
	"context"
	"net/http"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

// A Core is the bus as this protocol needs it: admission, reading and sending, under the
// bounds and counts that every transport has. The service implements it.
type Core interface {
	// Receive admits one more request and reads its JSON, whose media type may be Odoo's
	// own, bounded in bytes and time. done gives back what the request holds; it is called
	// once the body is not used any more, or, of a send, when it was stored.
	Receive(w http.ResponseWriter, r *http.Request) (body []byte, done func(), err error)

	// CheckChannels returns what is wrong with a list of channels, or nil.
	CheckChannels(channels []string) error

	// Poll waits for the first batch with notifications, or for the first gap if that is
	// asked for, and returns it. Without one it returns the last, without notifications,
	// when the wait is over, or when this node stops.
	Poll(ctx context.Context, p Poll) (dispatch.Batch, error)

	// Open begins a Poll for who waits. Unless it fails, Await must be called.
	Open(ctx context.Context, p Poll) (Polling, error)

	// Enter admits one more stream; leave ends it. Error: bus.ErrTooManyReaders.
	Enter() (leave func(), err error)

	// Walk gives a stream that was admitted its batches until ctx ends, the node drains
	// (bus.ErrDraining, behind a last batch) or the stream's Give or Carry fails
	// (context.Canceled). It may be called again, from the Last that was given, with
	// other channels.
	Walk(ctx context.Context, w Walk) error

	// IDBefore returns the highest settled id that is older than age, 0 if there is none, or
	// fails within a few seconds. Error: bus.ErrUnavailable.
	IDBefore(ctx context.Context, age time.Duration) (bus.ID, error)

	// Send stores messages, after their checks.
	Send(ctx context.Context, messages []bus.Message) ([]bus.Receipt, error)

	// Fault counts the end of a request by err, logs what only the operator may see, and
	// returns what a client may: a reason of the closed list and a sentence.
	Fault(ctx context.Context, method string, err error) (reason, message string)

	// Refuse answers with an HTTP error instead of a JSON-RPC one.
	Refuse(w http.ResponseWriter, r *http.Request, err error)

	// TakeRoom takes bytes of what all requests may have together while they come, or
	// nothing; GiveRoom gives them back.
	TakeRoom(bytes int64) bool
	GiveRoom(bytes int64)

	// Draining is closed when this node is about to stop.
	Draining() <-chan struct{}
}

// A Poll is one reading of the bus.
type Poll struct {
	Channels []string // as CheckChannels accepts them, repetitions too; none: only the wait
	After    *bus.ID  // nil: from now on
	Wait     time.Duration
	Gap      bool // a gap is an answer, too
}

// A Polling is a Poll under way.
type Polling interface {
	// Await returns when Batch has what Poll returns, or with its error. It waits on few
	// frames.
	Await(ctx context.Context) error
	Batch() dispatch.Batch
}

// A Walk is a stream of the bus. Above every id that was ever given After makes a first batch
// whose Gap has the reason bus.Ahead.
type Walk struct {
	Channels  []string // as of a Poll
	After     *bus.ID
	Heartbeat time.Duration // after it, without anything, Give is given an empty batch

	// Give takes a batch, on the goroutine that walks.
	Give func(dispatch.Batch) error

	// Carry takes a batch on a goroutine that many streams share, never while Give runs.
	// What it keeps in form is kept for the next stream that is given the same batch.
	Carry func(b *dispatch.Batch, form *any) error
}
