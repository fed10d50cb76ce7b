package robust

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/tests/robust/history"
)

// The ways a transaction ends.
const (
	plain            = "plain" // no BEGIN at all: the statement is the transaction
	commit           = "commit"
	rollback         = "rollback"
	commitPrepared   = "commit prepared"
	rollbackPrepared = "rollback prepared"
)

// A transaction is one decision of a sqlSender.
type transaction struct {
	letters   []letter // the void ones are between a SAVEPOINT and its ROLLBACK
	isolation string
	batched   bool // by send_messages, where the letters allow it
	lazy      bool // synchronous_commit off
	early     bool // SET CONSTRAINTS ALL IMMEDIATE
	end       string
	gid       string
	before    time.Duration // between the sends and the end
	held      time.Duration // prepared
	pause     time.Duration // before it all
	during    func() error  // what happens while it is prepared; nil: nothing
}

// A sqlSender sends as an application does, in transactions of its own, directly to the
// database.
type sqlSender struct {
	*run
	author
	conn *pgx.Conn // nil: connect again
	done int
}

func (s *sqlSender) decide() transaction {
	s.done++
	tx := transaction{
		letters:   s.write(),
		isolation: []string{"READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}[s.random.IntN(4)],
		batched:   chance(s.random, 30),
		lazy:      chance(s.random, 20),
		early:     chance(s.random, s.habits.early),
		end:       commit,
		gid:       fmt.Sprintf("%s-%d", s.name, s.done),
		before:    upTo(s.random, 500*time.Millisecond),
		held:      upTo(s.random, s.habits.held),
		pause:     s.habits.pause(s.random),
	}
	switch {
	case chance(s.random, s.habits.prepared):
		tx.end = []string{commitPrepared, commitPrepared, rollbackPrepared}[s.random.IntN(3)]
	case chance(s.random, 20):
		tx.end = rollback
	case chance(s.random, 25):
		tx.end = plain
		tx.letters = tx.letters[:1]
	}
	if tx.end != plain && len(tx.letters) > 1 && chance(s.random, 30) {
		first := s.random.IntN(len(tx.letters))
		for i := first; i <= first+s.random.IntN(len(tx.letters)-first); i++ {
			tx.letters[i].Void = true
		}
	}
	return tx
}

// work sends until ctx ends; a transaction under way is still ended.
func (s *sqlSender) work(ctx context.Context) {
	defer s.disconnect()
	for rest(ctx, 0) {
		tx := s.decide()
		if !rest(ctx, tx.pause) {
			return
		}
		if s.conn == nil && !s.connect() {
			rest(ctx, 50*time.Millisecond)
			continue
		}
		s.record.Send(s.perform(ctx, tx))
	}
}

func (s *sqlSender) connect() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return false
	}
	s.conn = conn
	return true
}

func (s *sqlSender) disconnect() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx)
	s.conn = nil
}

// do runs one statement. A connection that has failed is given up.
func (s *sqlSender) do(statement string, args ...any) (tag pgconn.CommandTag, err error) {
	if s.conn == nil && !s.connect() {
		return tag, errors.New("no connection")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	tag, err = s.conn.Exec(ctx, statement, args...)
	if err != nil && !refused(err) {
		s.disconnect()
	}
	return tag, err
}

// refused reports whether the server has said ERROR: the transaction is rolled back then.
func refused(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && said.SeverityUnlocalized == "ERROR"
}

// perform runs a transaction to its end and returns what is known of it.
func (s *sqlSender) perform(ctx context.Context, tx transaction) history.Send {
	sent := history.Send{Sender: s.name, Way: "sql " + tx.end, Messages: messagesOf(tx.letters), Outcome: history.Nothing}
	err := s.fill(ctx, tx, &sent)
	if err == nil {
		sent.Outcome, err = s.finish(ctx, tx, &sent)
	} else if s.conn != nil {
		if _, err := s.do("ROLLBACK"); err != nil {
			s.disconnect()
		}
	}
	if err != nil {
		sent.Fault = err.Error()
	}
	sent.Return = s.record.Now()
	return sent
}

// fill sends the letters, but for the end of the transaction. An error means that nothing
// is stored; sent.Call is set once ids may have been taken.
func (s *sqlSender) fill(ctx context.Context, tx transaction, sent *history.Send) error {
	if tx.end == plain {
		return nil
	}
	opening := []string{"BEGIN ISOLATION LEVEL " + tx.isolation}
	if tx.lazy {
		opening = append(opening, "SET LOCAL synchronous_commit = off")
	}
	if tx.end == commitPrepared || tx.end == rollbackPrepared {
		opening = append(opening, "SET LOCAL postbus.bell = 'off'")
	}
	for _, statement := range opening {
		if _, err := s.do(statement); err != nil {
			return err
		}
	}
	if err := s.sendAll(tx); err != nil {
		return err
	}
	sent.Call = s.record.Now()
	if tx.early {
		if _, err := s.do("SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
			return err
		}
	}
	rest(ctx, tx.before)
	if !tx.early {
		sent.Call = s.record.Now()
	}
	return nil
}

// sendAll sends the letters, the void ones inside a savepoint that is rolled back.
func (s *sqlSender) sendAll(tx transaction) error {
	rest := tx.letters
	for len(rest) > 0 {
		n := 1
		for n < len(rest) && rest[n].Void == rest[0].Void {
			n++
		}
		part := rest[:n]
		rest = rest[n:]
		if part[0].Void {
			if _, err := s.do("SAVEPOINT part"); err != nil {
				return err
			}
		}
		if err := s.sendPart(part, tx.batched); err != nil {
			return err
		}
		if part[0].Void {
			if _, err := s.do("ROLLBACK TO SAVEPOINT part"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sqlSender) sendPart(part []letter, batched bool) error {
	if batched {
		_, err := s.do("SELECT postbus.send_messages($1::text::json)", string(body(part)))
		return err
	}
	for i := range part {
		if _, err := s.do(part[i].statement()); err != nil {
			return err
		}
	}
	return nil
}

// finish ends the transaction.
func (s *sqlSender) finish(ctx context.Context, tx transaction, sent *history.Send) (history.Outcome, error) {
	switch tx.end {
	case rollback:
		_, err := s.do("ROLLBACK")
		return history.Nothing, err
	case plain:
		sent.Call = s.record.Now()
		_, err := s.do(tx.letters[0].statement())
		return committed(err), err
	case commit:
		tag, err := s.do("COMMIT")
		if err == nil && tag.String() != "COMMIT" {
			return history.Nothing, nil
		}
		return committed(err), err
	}
	_, err := s.do("PREPARE TRANSACTION '" + tx.gid + "'")
	if refused(err) {
		return history.Nothing, err
	}
	if tx.during != nil {
		s.fail(tx.during())
	}
	rest(ctx, tx.held)
	return s.endPrepared(tx, err != nil)
}

// committed says what the error of a COMMIT means.
func committed(err error) history.Outcome {
	switch {
	case err == nil:
		return history.Stored
	case refused(err):
		return history.Nothing
	}
	return history.Unknown
}

// endPrepared ends a prepared transaction, however often the connection breaks. doubtful
// says that it may not be prepared at all; what is left behind the end of the run rolls back.
func (s *sqlSender) endPrepared(tx transaction, doubtful bool) (history.Outcome, error) {
	statement, wanted := "COMMIT PREPARED '"+tx.gid+"'", history.Stored
	if tx.end == rollbackPrepared {
		statement, wanted = "ROLLBACK PREPARED '"+tx.gid+"'", history.Nothing
	}
	deadline := time.Now().Add(longest)
	for {
		_, err := s.do(statement)
		var said *pgconn.PgError
		switch missing := errors.As(err, &said) && said.Code == "42704"; {
		case err == nil:
			return wanted, nil
		case missing && doubtful:
			return history.Unknown, err
		case missing: // an earlier try whose answer did not come
			return wanted, nil
		case time.Now().After(deadline):
			return history.Unknown, err
		}
		rest(context.Background(), 50*time.Millisecond)
	}
}
