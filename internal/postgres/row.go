package postgres

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A row is a notification as the database has it. life is the seconds that are left to it, by the database's clock;
// infinite: its life is the retention.
type row struct {
	id            int64
	channel, kind string
	json          *string
	bin, headers  []byte
	sentAt        time.Time
	life          float64
}

// notification returns r as the domain's, read at now by this machine's clock.
func (r row) notification(now time.Time) (*bus.Notification, error) {
	n := &bus.Notification{ID: bus.ID(r.id), Channel: r.channel, Type: r.kind, SentAt: r.sentAt.UTC()}
	if r.json != nil {
		n.JSON = *r.json
	} else {
		n.Binary = r.bin
	}
	if r.headers != nil {
		if err := json.Unmarshal(r.headers, &n.Headers); err != nil {
			return nil, fmt.Errorf("headers of id %d: %w", r.id, err)
		}
	}
	if !math.IsInf(r.life, 1) {
		n.Expires = now.Add(seconds(r.life))
	}
	return n, nil
}

// seconds returns s as a Duration, the nearest one there is.
func seconds(s float64) time.Duration {
	switch ns := s * float64(time.Second); {
	case ns >= math.MaxInt64:
		return math.MaxInt64
	case ns <= math.MinInt64:
		return math.MinInt64
	default:
		return time.Duration(ns)
	}
}
