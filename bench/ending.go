//go:build unix

package main

import "errors"

// An ending is what has to be ended, the last first.
type ending []func() error

// add adds one more, which is ended before those that are there.
func (e *ending) add(f func() error) { *e = append(*e, f) }

// end ends all, also where some cannot be.
func (e *ending) end() error {
	var all []error
	for i := len(*e) - 1; i >= 0; i-- {
		all = append(all, (*e)[i]())
	}
	*e = nil
	return errors.Join(all...)
}
