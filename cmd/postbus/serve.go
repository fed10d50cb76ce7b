package main

import (
	"net/url"

	"github.com/spf13/cobra"
)

// newServe returns the command that runs a node on a database.
func newServe() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "serve --database-url URL",
		Short: "Run a node on your PostgreSQL",
		Long: `Run a node of the bus on the PostgreSQL database that URL names. The schema
"postbus" is made or brought up to date there first. SIGTERM or SIGINT drains: every
stream gets its last, every accepted send its answer; a second one exits at once.

Every flag has a variable: POSTBUS_DATABASE_URL for --database-url.`,
		Example: `  postbus serve --database-url postgres://postbus_node@localhost/app`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			if c.databaseURL == "" {
				return misuse("--database-url (or POSTBUS_DATABASE_URL) is required")
			}
			if err := c.check(); err != nil {
				return err
			}
			log, err := c.logger()
			if err != nil {
				return err
			}
			return runNode(cmd.Context(), c, log)
		},
	}
	registerDatabase(cmd, &c)
	c.register(cmd)
	return cmd
}

// registerDatabase declares the flags that say where the database is.
func registerDatabase(cmd *cobra.Command, c *config) {
	cmd.Flags().StringVar(&c.databaseURL, "database-url", "", "the database, postgres://USER:PASSWORD@HOST:PORT/NAME; required")
	cmd.Flags().StringVar(&c.listenURL, "listen-url", "", "a direct connection to the same database, when --database-url goes through a transaction pooler")
}

// checkURL refuses what is no URL of a database, without showing its password.
func checkURL(flag, value string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return misuse("--%s: must be a URL like postgres://USER:PASSWORD@HOST:PORT/NAME", flag)
	}
	return nil
}
