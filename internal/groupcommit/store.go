package groupcommit

import (
	"context"

	"github.com/postbus/postbus/internal/bus"
)

// A Store commits batches. internal/postgres implements it; so does the model in
// this package's tests. Safe for concurrent use.
type Store interface {
	// Append stores sends in one statement that commits by itself: all of it or
	// nothing. Ids are given in the order of the batch. The i-th result belongs to
	// the i-th send; stored is what was stored, ids ascending. A send that has a key
	// which an open transaction uses is left out, its Busy set, and the others are
	// stored.
	//
	// Errors: bus.ErrUnavailable when nothing was stored; bus.ErrUnknownOutcome when
	// that is not known; *DataError when the database refused the data, nothing stored.
	Append(ctx context.Context, sends [][]bus.Message) (results []Result, stored []*bus.Notification, err error)
}

// A Result is what became of one send of a batch.
type Result struct {
	Receipts []bus.Receipt // one for each message, unless Busy
	Busy     bool          // nothing of this send was stored: a key is in use
}

// A DataError is the database's refusal of some message of a batch.
type DataError struct{ Err error }

func (e *DataError) Error() string { return e.Err.Error() }
func (e *DataError) Unwrap() error { return e.Err }
