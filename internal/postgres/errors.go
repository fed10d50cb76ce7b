package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/groupcommit"
)

// unavailable wraps a failed read. A context that has ended stays recognisable.
func unavailable(operation string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return fmt.Errorf("%s: %w: %w", operation, bus.ErrUnavailable, err)
}

// outcome says what an error of a statement that commits by itself means. It is asked after everything up to the server's
// ReadyForQuery was read: in the extended protocol the commit comes after the statement's own completion.
func outcome(n int, err error) error {
	operation := fmt.Sprintf("append %d messages", n)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.SeverityUnlocalized == "FATAL", errors.As(err, &refused) && refused.SeverityUnlocalized == "PANIC":
		// The session ended. Before the commit or in it: the message does not say.
		return fmt.Errorf("%s: %w: %w", operation, bus.ErrUnknownOutcome, err)
	case errors.As(err, &refused):
		// ERROR: the transaction was rolled back.
		switch refused.Code[:2] {
		case "21", "22", "23", "54": // cardinality, data, constraint, a limit of the server
			return fmt.Errorf("%s: %w", operation, &groupcommit.DataError{Err: err})
		}
		return fmt.Errorf("%s: %w: %w", operation, bus.ErrUnavailable, err)
	case pgconn.SafeToRetry(err): // nothing was sent
		return fmt.Errorf("%s: %w: %w", operation, bus.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w: %w", operation, bus.ErrUnknownOutcome, err)
}
