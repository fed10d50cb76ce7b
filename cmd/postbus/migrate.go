package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/postbus/postbus/internal/postgres"
)

// newMigrate returns the command that brings the schema up to date.
func newMigrate() *cobra.Command {
	var c config
	var roles postgres.Roles
	var limits postgres.Settings
	var newHistory bool
	cmd := &cobra.Command{
		Use:   "migrate --database-url URL",
		Short: "Make the schema, or bring it up to date",
		Long: `Make the schema "postbus" in the database, or bring it up to date, and grant what its
three roles need; the roles are created if the migrating role may. Several at once
wait for each other. serve does the same when it starts, if its role may.

--max-body, --retention and --key-retention record what SQL senders meet, in place of
what the first node has recorded; give serve the same.

--new-history is for one case: the database was put back from a file-level copy with no
node alive (see docs/operations.md). Ids go on at the next multiple of 2^32 then.

Every flag has a variable: POSTBUS_DATABASE_URL for --database-url.`,
		Example: `  postbus migrate --database-url postgres://owner@localhost/app
  postbus migrate --new-history --database-url postgres://owner@localhost/app`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			if c.databaseURL == "" {
				return misuse("--database-url (or POSTBUS_DATABASE_URL) is required")
			}
			if err := checkURL("database-url", c.databaseURL); err != nil {
				return err
			}
			if err := checkLimits(limits); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), migrateTimeout)
			defer cancel()
			if err := migrate(ctx, cmd, c.databaseURL, roles, newHistory); err != nil {
				return err
			}
			return recordLimits(ctx, cmd, c.databaseURL, limits)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.databaseURL, "database-url", "", "the database, postgres://USER:PASSWORD@HOST:PORT/NAME; required")
	f.StringVar(&roles.Sender, "sender-role", "postbus_sender", "the role that may send")
	f.StringVar(&roles.Reader, "reader-role", "postbus_reader", "the role that may read by postbus.poll")
	f.StringVar(&roles.Node, "node-role", "postbus_node", "the role that serve needs")
	f.IntVar(&limits.MaxBody, "max-body", 0, "record this limit, bytes of one message's payload, 65536 to 3145728; 0: leave it")
	f.DurationVar(&limits.Retention, "retention", 0, "record how long a message is kept; 0s: leave it")
	f.DurationVar(&limits.KeyRetention, "key-retention", 0, "record how long an idempotency key is remembered; 0s: leave it")
	f.BoolVar(&newHistory, "new-history", false, "after a restore from a file-level copy: begin a new history of ids")
	return cmd
}

func migrate(ctx context.Context, cmd *cobra.Command, url string, roles postgres.Roles, newHistory bool) error {
	version, err := postgres.Migrate(ctx, url, postgres.MigrateOptions{Roles: roles})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "schema postbus is at version %d\n", version)
	if !newHistory {
		return nil
	}
	first, err := postgres.NewHistory(ctx, url)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "a new history begins at id %d\n", first)
	return nil
}

// checkLimits returns the first limit that cannot be recorded.
func checkLimits(limits postgres.Settings) error {
	switch {
	case limits.MaxBody != 0 && (limits.MaxBody < minMaxBody || limits.MaxBody > maxMaxBody):
		return misuse("--max-body: %d, must be %d to %d", limits.MaxBody, minMaxBody, maxMaxBody)
	case limits.Retention != 0 && limits.Retention < time.Second:
		return misuse("--retention: %s, at least 1s", limits.Retention)
	case limits.KeyRetention != 0 && limits.KeyRetention < time.Second:
		return misuse("--key-retention: %s, at least 1s", limits.KeyRetention)
	}
	return nil
}

// recordLimits records those of limits that are not zero.
func recordLimits(ctx context.Context, cmd *cobra.Command, url string, limits postgres.Settings) error {
	if limits == (postgres.Settings{}) {
		return nil
	}
	db, err := postgres.Open(ctx, postgres.Options{URL: url})
	if err != nil {
		return err
	}
	defer db.Close()
	recorded, err := db.Settings(ctx)
	if err != nil {
		return err
	}
	recorded.MaxBody = cmp.Or(limits.MaxBody, recorded.MaxBody)
	recorded.Retention = cmp.Or(limits.Retention, recorded.Retention)
	recorded.KeyRetention = cmp.Or(limits.KeyRetention, recorded.KeyRetention)
	if err := db.SaveSettings(ctx, recorded, true); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "recorded: max body %d bytes, retention %s, key retention %s\n",
		recorded.MaxBody, recorded.Retention, recorded.KeyRetention)
	return nil
}
