// Package migrations holds the schema's only truth: the files that make it, each applied once,
// in the order of their numbers.
package migrations

import "embed"

// Files are the migrations, named NNNN_what.sql.
//
//go:embed *.sql
var Files embed.FS
