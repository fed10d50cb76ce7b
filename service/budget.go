package service

import "sync/atomic"

// A budget bounds something that is taken and given back: connections, requests, bytes.
// Who finds it spent is refused at once, and nobody waits.
type budget struct {
	most int64
	used atomic.Int64
}

// take takes n and says true, or takes nothing.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }
