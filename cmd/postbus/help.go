package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// inGroups adds the flags of groups to cmd, whose usage shows them group by group, behind
// those that it has already.
func inGroups(cmd *cobra.Command, groups ...*pflag.FlagSet) {
	grouped := make(map[string]bool)
	for _, group := range groups {
		cmd.Flags().AddFlagSet(group)
		group.VisitAll(func(f *pflag.Flag) { grouped[f.Name] = true })
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		out := cmd.OutOrStderr()
		fmt.Fprintf(out, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
		own := pflag.NewFlagSet("Flags", pflag.ContinueOnError)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !grouped[f.Name] {
				own.AddFlag(f)
			}
		})
		for _, group := range append([]*pflag.FlagSet{own}, groups...) {
			fmt.Fprintf(out, "\n%s:\n%s", group.Name(), group.FlagUsages())
		}
		return nil
	})
}
