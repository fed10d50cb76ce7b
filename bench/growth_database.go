//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/jackc/pgx/v5"
)

// database makes one more database with the schema and returns its URL.
func (r *rig) database(ctx context.Context, name string) (string, error) {
	if err := r.exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	url := r.postgres.DatabaseURL(name)
	cmd := exec.CommandContext(ctx, r.program, "migrate")
	cmd.Env = append(os.Environ(), "POSTBUS_DATABASE_URL="+url)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("postbus migrate: %w: %s", err, text)
	}
	return url, nil
}

// filled returns a database with one row of each of so many channels, made at the first
// call with that number.
func (r *rig) filled(ctx context.Context, channels int) (string, error) {
	name := fmt.Sprintf("filled-%d", channels)
	conn, err := pgx.Connect(ctx, r.plainURL)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil || there {
		return r.postgres.DatabaseURL(name), err
	}
	url, err := r.database(ctx, name)
	if err != nil {
		return "", err
	}
	return url, fill(ctx, url, "channel-%d", channels, channels)
}

// fill puts so many messages of 200 bytes into a database that no node follows, in turn
// to the channels that channel, with "%d" in it, makes of the numbers from 0 on.
func fill(ctx context.Context, url, channel string, rows, channels int) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const insert = "INSERT INTO postbus.bus (channel, type, json) SELECT replace($1, '%d', (i % $3)::text), '', $4 FROM generate_series(0, $2::bigint - 1) AS i"
	if _, err := conn.Exec(ctx, insert, channel, rows, channels, payload()); err != nil {
		return fmt.Errorf("insert %d rows: %w", rows, err)
	}
	for _, each := range []string{
		"UPDATE postbus.state SET floor = (SELECT max(id) FROM postbus.bus)", // a node begins behind them
		"VACUUM ANALYZE postbus.bus",
	} {
		if _, err := conn.Exec(ctx, each); err != nil {
			return fmt.Errorf("%s: %w", each, err)
		}
	}
	return nil
}

// transactions returns how many transactions have ended in a database. Each of a node's
// statements is one, but for the few that retention does in one.
func (r *rig) transactions(ctx context.Context, database string) (count float64, err error) {
	conn, err := pgx.Connect(ctx, r.plainURL)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname = $1", database).Scan(&count)
	return count, err
}
