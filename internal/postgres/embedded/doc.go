//go:build unix

// Package embedded runs a private PostgreSQL: the one of `postbus dev`, and the ones
// of the tests.
//
// # A server's life
//
// Start finds the binaries (Options.BinDir, or PATH and the distributions' usual
// folders) or downloads them, takes the data folder's lock, ends what an earlier life
// left running there, creates the cluster if there is none, and starts the postmaster
// as a child process. It returns once connections are accepted. Stop ends the server
// and waits for it. The data stay, unless Options.Ephemeral says otherwise.
//
// # The data folder
//
//	cluster/    PostgreSQL's own data directory
//	password    the superuser's password, mode 0600: other local users cannot come in
//	lock        held by flock as long as a Server lives; the kernel drops it at kill -9
//	server.log  the server's log, at most logLimit bytes, and server.log.1 before it
//
// A cluster comes into being by one rename, so that a start that was interrupted leaves
// none or a whole one. The server listens on 127.0.0.1 only, without a Unix socket.
//
// # Who ends what
//
// The postmaster is in a process group of its own: a terminal's Ctrl-C reaches the
// program, which drains first and then stops the server. When the program is killed, on
// Linux the kernel sends the postmaster a fast shutdown at once (PR_SET_PDEATHSIG,
// TestNothingOutlivesAKilledParent); elsewhere the next Start ends it.
//
// # As root
//
// PostgreSQL refuses to run as root, so its programs run as the cluster's owner, else as
// the user postgres, else as nobody. That user must be able to enter every folder above
// the data; an error names the first it cannot enter.
package embedded
