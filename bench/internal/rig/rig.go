//go:build unix

// Package rig is what every experiment stands on: processes of Postbus and of others, their
// databases, this program in other roles, and a clock for the CPU time of all of them.
package rig

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded"
)

// A Rig is a private PostgreSQL with three databases that have the same schema: a node
// works on one, two nodes on another, and the third, that nobody follows, is for what they
// are compared with.
type Rig struct {
	program  string
	postgres *embedded.Server
	log      *statementLog
	NodeURL  string
	PairURL  string
	PlainURL string
}

// NewRig starts a PostgreSQL. Checkpoints are as rare as settings can make them: one that
// falls into one variant and not into another would be measured, too.
func (b *Bench) NewRig(ctx context.Context) (*Rig, error) {
	r := &Rig{program: b.Program, log: &statementLog{counts: map[string]int64{}}}
	var err error
	r.postgres, err = embedded.Start(ctx, embedded.Options{
		Ephemeral: true,
		Log:       r.log,
		Settings: map[string]string{
			"fsync":              "on",
			"synchronous_commit": "on",
			"checkpoint_timeout": "1h",
			"max_wal_size":       "16GB",
			"max_connections":    "400", // 256 sessions that write, and the nodes
		},
	})
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(err, r.End(ctx))
	}
	return r, nil
}

// prepare makes the other databases and installs the schema in all.
func (r *Rig) prepare(ctx context.Context) (err error) {
	r.NodeURL = r.postgres.URL()
	if r.PairURL, err = r.Database(ctx, "pair"); err != nil {
		return err
	}
	if r.PlainURL, err = r.Database(ctx, "plain"); err != nil {
		return err
	}
	return r.migrate(ctx, r.NodeURL)
}

// exec runs each statement by itself, in the node's database.
func (r *Rig) exec(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, r.NodeURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, each := range statements {
		if _, err := conn.Exec(ctx, each); err != nil {
			return fmt.Errorf("%s: %w", each, err)
		}
	}
	return nil
}

// Postmaster returns the process number of PostgreSQL's first process.
func (r *Rig) Postmaster() int { return r.postgres.PID() }

// End stops the server and removes its data, also when ctx has ended.
func (r *Rig) End(ctx context.Context) error {
	return r.postgres.Stop(context.WithoutCancel(ctx))
}
