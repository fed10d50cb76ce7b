//go:build unix

package rig

import "errors"

// An Ending is what has to be ended, the last first.
type Ending []func() error

// Add adds one more, which is ended before those that are there.
func (e *Ending) Add(f func() error) { *e = append(*e, f) }

// End ends all, also where some cannot be.
func (e *Ending) End() error {
	var all []error
	for i := len(*e) - 1; i >= 0; i-- {
		all = append(all, (*e)[i]())
	}
	*e = nil
	return errors.Join(all...)
}
