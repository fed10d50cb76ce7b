package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/postbus/postbus/client"
)

// newRoot returns the command line. Every error of its flags and arguments is a
// misuseError; what a command's RunE returns is what went wrong in it.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "postbus",
		Short: "A notification bus on the PostgreSQL that you already run",
		Long: `Postbus turns PostgreSQL into a notification bus: services send over gRPC, JSON
or inside their own SQL transaction, and readers receive in commit order, without
loss, and go on after a break from the last id they have.

Try it: "postbus dev" in one terminal, "postbus tail orders" in a second, and in a
third: postbus send orders '{"order": 7}'`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misuse("a command is required; see postbus --help")
			}
			if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
				return misuse("unknown command %q, did you mean %s?", args[0], similar[0])
			}
			return misuse("unknown command %q; see postbus --help", args[0])
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse("%v; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newServe(), newDev(), newMigrate(), newSend(), newTail(), newVersion())
	for _, cmd := range root.Commands() {
		cmd.Args = misusedArgs(cmd.Args)
	}
	return root
}

// misusedArgs makes a misuseError of what args refuses; nil refuses every argument.
func misusedArgs(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if args == nil {
			if len(given) > 0 {
				return misuse("%s takes no arguments, got %q", cmd.CommandPath(), given[0])
			}
			return nil
		}
		if err := args(cmd, given); err != nil {
			return misuse("%v; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}

const (
	defaultServer  = "127.0.0.1:8073"
	serverVariable = "POSTBUS_SERVER"
)

// A remote is the server that send and tail talk to.
type remote struct{ address string }

// register declares --server.
func (r *remote) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.address, "server", defaultServer, "the server's gRPC address; "+serverVariable+" is its variable")
}

// dial returns a client of the server that the flag, or else the variable, names.
func (r *remote) dial(cmd *cobra.Command, o client.Options) (*client.Client, error) {
	o.Target = r.address
	if value := os.Getenv(serverVariable); value != "" && !cmd.Flags().Changed("server") {
		o.Target = value
	}
	c, err := client.Dial(o)
	if err != nil {
		return nil, misuseError{fmt.Errorf("server: %w", err)}
	}
	return c, nil
}
