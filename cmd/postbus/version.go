package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, the commit and the Go version that this was built with",
		Example: "  postbus version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, commit := "unknown", "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				modified := ""
				for _, setting := range info.Settings {
					switch setting.Key {
					case "vcs.revision":
						commit = setting.Value
					case "vcs.modified":
						if setting.Value == "true" {
							modified = " (modified)"
						}
					}
				}
				commit += modified
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "postbus %s\ncommit %s\n%s\n", version, commit, runtime.Version())
			return err
		},
	}
}
