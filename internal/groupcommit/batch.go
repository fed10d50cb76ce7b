package groupcommit

import (
	"context"
	"errors"
	"fmt"

	"github.com/postbus/postbus/internal/bus"
)

// commit stores a batch and answers its senders.
func (w *Writer) commit(ctx context.Context, batch []*send) {
	messages := make([][]bus.Message, len(batch))
	for i, s := range batch {
		messages[i] = s.messages
	}
	bounded, cancel := context.WithTimeout(ctx, w.opts.CommitTimeout)
	results, stored, err := w.opts.Store.Append(bounded, messages)
	cancel()

	var refused *DataError
	switch {
	case err == nil:
		w.opts.Stored(stored)
		w.settle(batch, results)
	case errors.As(err, &refused) && len(batch) > 1:
		half := len(batch) / 2
		w.commit(ctx, batch[:half])
		w.commit(ctx, batch[half:])
	default:
		err = fmt.Errorf("store %d sends: %w", len(batch), err)
		for _, s := range batch {
			w.finish(s, answer{err: err})
		}
	}
}

// settle answers the senders of a committed batch, but for those whose key is busy.
func (w *Writer) settle(batch []*send, results []Result) {
	w.mu.Lock()
	w.counts.Batches++
	for i, s := range batch {
		if !results[i].Busy {
			w.counts.Sends++
			w.counts.Messages += int64(len(s.messages))
			w.accepted.drop(s)
		}
	}
	w.mu.Unlock()
	for i, s := range batch {
		if results[i].Busy {
			w.park(s)
		} else {
			s.answer <- answer{receipts: results[i].Receipts}
		}
	}
}

func (w *Writer) finish(s *send, a answer) {
	w.mu.Lock()
	w.accepted.drop(s)
	w.mu.Unlock()
	s.answer <- a
}
