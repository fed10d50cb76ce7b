package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/postbus/postbus/internal/postgres/embedded"
)

// newDev returns the command that runs a node on a private PostgreSQL.
func newDev() *cobra.Command {
	var c config
	var dataDir, binDir string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a node on a private PostgreSQL of its own, to try things out",
		Long: `Run a node like serve does, on a private PostgreSQL that is started with it and ends
with it. Its programs are those found on this machine (PATH, then the folders where
distributions put them), else they are downloaded and checked. Started as root,
PostgreSQL runs as an unprivileged user. The data stay for the next start.

Every flag has a variable: POSTBUS_DATA_DIR for --data-dir.`,
		Example: `  postbus dev
  postbus dev --data-dir /tmp/bus --http-addr 127.0.0.1:9072`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			if err := c.check(); err != nil {
				return err
			}
			return runDev(cmd.Context(), c, dataDir, binDir)
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", embedded.DefaultDataDir(), "where the private PostgreSQL keeps its data")
	cmd.Flags().StringVar(&binDir, "postgres-bin", "", "the folder of PostgreSQL's server programs; empty: found, else downloaded")
	c.register(cmd)
	return cmd
}

// stopPostgres bounds the end of the private PostgreSQL.
const stopPostgres = 10 * time.Second

func runDev(ctx context.Context, c config, dataDir, binDir string) (err error) {
	log, err := c.logger()
	if err != nil {
		return err
	}
	server, err := embedded.Start(ctx, embedded.Options{DataDir: dataDir, BinDir: binDir, Logger: log})
	if err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPostgres)
		defer cancel()
		err = errors.Join(err, server.Stop(bounded))
	}()
	origin := "found in"
	if server.Downloaded() {
		origin = "downloaded to"
	}
	fmt.Fprintf(os.Stderr, "postbus dev: PRIVATE PostgreSQL %s (%s %s), data in %s, at %s\n",
		server.Version(), origin, server.BinDir(), dataDir, server.URL())

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-server.Done():
			cancel(errPostgresDied)
		case <-ctx.Done():
		}
	}()
	c.databaseURL = server.URL()
	err = runNode(ctx, c, log)
	if errors.Is(context.Cause(ctx), errPostgresDied) {
		return errors.Join(errPostgresDied, err)
	}
	return err
}

var errPostgresDied = errors.New("the private PostgreSQL ended by itself; its log is in the data directory")
