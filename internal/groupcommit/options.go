package groupcommit

import (
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// Options configure a Writer; zero values are the defaults.
type Options struct {
	Store Store // required

	// Stored is told what a batch stored, ids ascending, before its senders are
	// answered. It must not block. Default: nobody is told.
	Stored func([]*bus.Notification)

	QueueMessages int           // messages that may wait; default 100,000
	QueueBytes    int           // bytes that may wait; default 256 MiB
	InFlight      int           // batches under way at once; default 2
	Late          time.Duration // the next one begins beside one that takes so long; default 2 ms
	BatchMessages int           // a batch takes no further send from here on; default 1,000
	BatchBytes    int           // likewise; default 4 MiB
	CommitTimeout time.Duration // of one batch; default 10 s
	KeyPatience   time.Duration // how long a send waits for a busy key; default 5 s
}

func (o Options) withDefaults() Options {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.QueueMessages, 100_000)
	set(&o.QueueBytes, 256<<20)
	set(&o.InFlight, 2)
	set(&o.BatchMessages, 1_000)
	set(&o.BatchBytes, 4<<20)
	if o.Late <= 0 {
		o.Late = 2 * time.Millisecond
	}
	if o.CommitTimeout <= 0 {
		o.CommitTimeout = 10 * time.Second
	}
	if o.KeyPatience <= 0 {
		o.KeyPatience = 5 * time.Second
	}
	if o.Stored == nil {
		o.Stored = func([]*bus.Notification) {}
	}
	return o
}
