package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A Store is the log as the dispatcher needs it: a tail to follow and pages to
// catch up with. internal/postgres implements it; so does the model in this
// package's tests.
type Store interface {
	// OpenTail opens the one connection on which the tail is followed. It fails on
	// a server in recovery. A database that is not in the recorded history, or whose
	// sequence is below pos (ids that this node has delivered would be given again),
	// or that lacks a row which this node knows to be committed, is moved to a new
	// history first.
	OpenTail(ctx context.Context, pos bus.ID) (Tail, Position, error)

	// ReadPage reads what channels hold in (after, until], ids ascending. Every id
	// up to until must be settled. Safe for concurrent use.
	ReadPage(ctx context.Context, req PageRequest) (Page, error)

	// LastGiven returns the highest id that the primary's sequence ever gave.
	LastGiven(ctx context.Context) (bus.ID, error)
}

// A Position is what a tail begins with.
type Position struct {
	Floor     bus.ID     // every id up to here was settled when it was recorded
	Head      bus.ID     // the highest id in the table
	TrimmedTo bus.ID     // retention has taken everything up to here
	Histories []bus.Past // every boundary between histories, ascending
}

// A Tail is one direct connection to the primary, every statement in a snapshot of
// its own (READ COMMITTED). It is used by one goroutine. Every method but Wait
// answers or fails within a few seconds; after an error the Tail is only closed.
type Tail interface {
	// Read returns the rows that req asks for, cut by bytes and by number.
	Read(ctx context.Context, req TailRequest) (Rows, error)

	// Holders names the transactions that may still commit ids: those that hold
	// the lock which every INSERT into the table takes before its ids and keeps
	// until it is visible or void.
	Holders(ctx context.Context) ([]Holder, error)

	// CanSleep says whether the connection has a session of its own: behind a
	// transaction pooler it has not, and Arm, Disarm, Wait and Check are not called.
	CanSleep() bool

	// Arm makes every sender that inserts from now on ring the bell; Disarm ends it.
	Arm(ctx context.Context) error
	Disarm(ctx context.Context) error

	// Wait blocks until the bell rings, for at most timeout, and says whether it
	// rang. Several rings may be one.
	Wait(ctx context.Context, timeout time.Duration) (rang bool, err error)

	// Check proves that the connection hears: it rings its own bell (nobody else's)
	// and fails unless that arrives.
	Check(ctx context.Context) error

	// SaveFloor records that every id up to pos is settled.
	SaveFloor(ctx context.Context, pos bus.ID) error

	// Close ends the connection, at once.
	Close()
}

// A TailRequest asks for the rows with ids above After.
type TailRequest struct {
	After bus.ID
	Held  []*bus.Notification // not for these, ids ascending; those far above may come all the same

	// Channels are those that somebody here reads, if they are few: of others the ids
	// suffice. nil: of all channels the rows are wanted.
	Channels []string
}

// Rows are what one read of the tail has shown.
type Rows struct {
	Notifications []*bus.Notification // ids ascending
	Hollow        []bus.ID            // of rows that are not sent, of channels that were not asked for; ascending
	Full          bool                // it was cut behind the last of these, and more may follow
	TrimmedTo     bus.ID              // with any rows: retention has taken everything up to here
}

// A Holder is one transaction, of a session or prepared, that may still commit ids.
type Holder struct {
	// Transaction identifies it for as long as the server lives: the virtual
	// transaction id.
	Transaction string
	// Recovered: it was prepared before a restart of the server, so that it may
	// have been known by another name.
	Recovered bool
	// PID is its server process; 0 when it is prepared.
	PID int32
	// GID is the name it was prepared under, if it is prepared and may be seen.
	GID string
}

// String names the holder as an operator looks for it.
func (h Holder) String() string {
	switch {
	case h.PID != 0:
		return fmt.Sprintf("pid %d", h.PID)
	case h.GID != "":
		return fmt.Sprintf("prepared transaction %q", h.GID)
	}
	return "a prepared transaction (" + h.Transaction + ")"
}

// A PageRequest asks for one page of channels' notifications in (After, Until].
type PageRequest struct {
	Channels []string // without repetition
	After    bus.ID
	Until    bus.ID
	Max      int // notifications, at least 1
	MaxBytes int // cut after the first notification that reaches it
}

// A Page is the answer to a PageRequest.
type Page struct {
	Notifications []*bus.Notification
	// Scanned: channels hold nothing more in (After, Scanned] than Notifications
	// (expired ones aside). It is Until when the page was not cut.
	Scanned bus.ID
	// TrimmedTo is the id up to which retention had removed messages, from the
	// snapshot of the page itself.
	TrimmedTo bus.ID
}
