package service

import "sync/atomic"

// A gauge counts up and down.
type gauge = atomic.Int64

// counts are what the service knows about itself.
type counts struct {
	readers       gauge // streams and polls, what MaxReaders bounds
	streams       gauge
	polls         gauge
	watches       gauge // health watches and the like, among the readers
	sends         atomic.Int64
	messages      atomic.Int64
	duplicates    atomic.Int64
	pollsAnswered atomic.Int64
	heartbeats    atomic.Int64
	gaps          atomic.Int64
	faults        map[string]*atomic.Int64 // by reason; the map never changes
}

func newCounts() counts {
	faults := make(map[string]*atomic.Int64)
	for _, reason := range Reasons() {
		faults[reason] = new(atomic.Int64)
	}
	return counts{faults: faults}
}

// Stats is a snapshot of what a Service has done since its start.
type Stats struct {
	OpenStreams  int64            // subscriptions open now, of every transport
	OpenPolls    int64            // polls open now
	OpenWatches  int64            // health watches, reflection streams
	Requests     int64            // being received, and sends being answered
	RequestBytes int64            // of requests being received
	GRPCGuests   int64            // connections of gRPC that are inside
	HTTPGuests   int64            // connections of HTTP that are inside
	Sends        int64            // sends that were stored
	Messages     int64            // messages of these, duplicates among them
	Duplicates   int64            // messages that were not stored because of their key
	Polls        int64            // polls answered without an error
	Heartbeats   int64            // responses of streams without notifications
	Gaps         int64            // gaps told
	Faults       map[string]int64 // requests refused or failed, by reason
}

// Stats returns the counts as they are now; they are not taken at one instant.
func (s *Service) Stats() Stats {
	c := &s.counts
	faults := make(map[string]int64, len(c.faults))
	for reason, n := range c.faults {
		faults[reason] = n.Load()
	}
	return Stats{
		OpenStreams:  c.streams.Load(),
		OpenPolls:    c.polls.Load(),
		OpenWatches:  c.watches.Load(),
		Requests:     s.requests.used.Load(),
		RequestBytes: s.requestBytes.used.Load(),
		GRPCGuests:   s.grpcGuests.used.Load(),
		HTTPGuests:   s.httpGuests.used.Load(),
		Sends:        c.sends.Load(),
		Messages:     c.messages.Load(),
		Duplicates:   c.duplicates.Load(),
		Polls:        c.pollsAnswered.Load(),
		Heartbeats:   c.heartbeats.Load(),
		Gaps:         c.gaps.Load(),
		Faults:       faults,
	}
}
