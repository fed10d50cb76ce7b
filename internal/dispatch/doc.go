// Package dispatch is the bus in memory: one log, one writer, many cursors. A
// Dispatcher follows the tail of the table into a short shared window; a
// Subscription is a cursor that walks along it, and reads the table where the window
// does not reach. There is one Dispatcher in a process, whatever the number of
// subscriptions, and one connection that it follows the tail on.
//
// # What is settled
//
// Ids are taken before their transaction commits, so that a lower one may become
// visible after a higher one. Pos is the last settled id: every id up to it is visible
// or never will be, and only those are delivered. An id one above pos settles at
// once. Over a gap the follower asks which transactions may still commit, by the lock
// that every INSERT holds, in three statements with a snapshot each: the rows, the
// holders, the rows again (tracker.go has the argument). Timers decide when it
// looks, never what is settled.
//
// What was offered by this node or read above a gap is committed and stays so: it is held
// (early.go), up to a bound, and left out of the reads that follow (TestNothingIsReadTwice).
//
// # Sleep
//
// While messages flow the follower reads every few milliseconds and no sender pays for
// waking it. To sleep it arms the bell, waits for the transactions that may have
// looked at the bell before, reads once more, and only then blocks (sleep.go). A
// fallback read every second finds what any mistake in this would miss, and a check of
// the connection proves that it hears.
//
// # The window
//
// The window holds the newest notifications, up to a bound in bytes, indexed by
// channel. It is guarded by one lock: the follower (and Offer, for what this node has
// committed itself) appends under it and marks the subscriptions of each
// notification's channel; a subscription collects under its read side. A shared
// notification never changes, so that a slow reader holds nobody up and costs
// nothing but its cursor: when the window has moved past it, it reads pages from the
// table until it meets the window again.
//
// While messages flow the store may give ids alone for channels that nobody here reads
// (hollow.go). Each topic knows up to where the window may lack something of it for that
// reason; a cursor below reads the table.
//
// # Cursors
//
// A subscription that was told "nothing up to pos" is marked when something comes, so
// that a quiet one costs no query however far the window has moved. Everything up to
// its cursor has been given to it, or was not in its channels, or was told as a gap.
//
// # Rounds
//
// To wake a goroutine costs more than to send a message. So a stream that has been given
// everything may ride (ride.go): its goroutine sleeps on, and one goroutine for each
// processor, the courier (round.go), gives what comes to all who ride, each as far as the
// window reaches. What is unusual it leaves to the owner: pages of the table, gaps, the
// drain. A courier that a stalled stream holds up is replaced within 15 ms.
package dispatch
