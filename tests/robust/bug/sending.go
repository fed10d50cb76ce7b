package bug

// sending are mistakes on a message's way from a node's Send into the table.
func sending() []Bug {
	return []Bug{{
		Name:      "answer-before-the-commit",
		Promise:   "G1",
		Mistake:   "answer when the statement is done and let the commit follow",
		Seen:      "a message that Send has answered is gone when the connection breaks at that moment",
		Scenarios: []string{"slow-and-cut"},
		Edits: []Edit{{
			File: "internal/postgres/append.go",
			Old: `	defer conn.Release()
	row, err := db.New(conn).AppendBatch(ctx, b.params)
`,
			New: `	tx, err := conn.Begin(ctx)
	if err != nil {
		conn.Release()
		return nil, nil, unavailable("begin", err)
	}
	row, err := db.New(tx).AppendBatch(ctx, b.params)
	go func() {
		defer conn.Release()
		_ = tx.Commit(context.WithoutCancel(ctx))
	}()
`,
		}},
	}, {
		Name:      "unknown-is-not-stored",
		Promise:   "G1",
		Mistake:   "the connection broke, so the statement has failed",
		Seen:      "a sender that is told \"not stored\" sends again, and the message comes twice",
		Scenarios: []string{"network"},
		Edits: []Edit{{
			File: "internal/postgres/errors.go",
			Old:  "	return fmt.Errorf(\"%s: %w: %w\", operation, bus.ErrUnknownOutcome, err)\n}\n",
			New:  "	return fmt.Errorf(\"%s: %w: %w\", operation, bus.ErrUnavailable, err)\n}\n",
		}},
	}, {
		Name:      "send-in-two-statements",
		Promise:   "G6",
		Mistake:   "large statements are slow, so store a Send in pieces",
		Seen:      "half of a Send is stored when something breaks between the pieces",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/groupcommit/batch.go",
			Old:  "w.opts.Store.Append(bounded, messages)\n",
			New:  "w.pieces(bounded, messages)\n",
		}, {
			File: "internal/groupcommit/batch.go",
			Old:  "// settle answers the senders",
			New: `func (w *Writer) pieces(ctx context.Context, sends [][]bus.Message) ([]Result, []*bus.Notification, error) {
	first, second, large := make([][]bus.Message, len(sends)), make([][]bus.Message, len(sends)), false
	for i, messages := range sends {
		half := (len(messages) + 1) / 2
		first[i], second[i] = messages[:half], messages[half:]
		large = large || len(messages) > 1
	}
	if !large {
		return w.opts.Store.Append(ctx, sends)
	}
	results, stored, err := w.opts.Store.Append(ctx, first)
	if err != nil {
		return nil, nil, err
	}
	more, rest, err := w.opts.Store.Append(ctx, second)
	if err != nil {
		return nil, nil, err
	}
	for i := range results {
		results[i].Receipts = append(results[i].Receipts, more[i].Receipts...)
		results[i].Busy = results[i].Busy || more[i].Busy
	}
	return results, append(stored, rest...), nil
}

// settle answers the senders`,
		}},
	}, {
		Name:      "key-forgotten-at-the-retry",
		Promise:   "G7",
		Mistake:   "the key was looked at when the message came, so the second try needs none",
		Seen:      "of two senders with one key at the same time both are stored",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/groupcommit/busy.go",
			Old:  "	delete(w.parked, s)\n",
			New: `	delete(w.parked, s)
	for i := range s.messages {
		s.messages[i].Key = ""
	}
`,
		}},
	}}
}
