//go:build unix

package readers

import (
	"math"
	"testing"
	"time"
)

func TestDelaysHavePercentiles(t *testing.T) {
	var d delays
	for i := range 100 {
		d.add(time.Duration(i) * time.Millisecond)
	}
	for p, want := range map[float64]float64{1: 0.1, 50: 49.1, 99: 98.1, 100: 99.1} {
		if got := d.percentile(p); math.Abs(got-want) > 1e-6 {
			t.Errorf("p%v is %v ms, want %v", p, got, want)
		}
	}
	d.add(time.Hour)
	d.add(-time.Second)
	if got := d.percentile(100); math.Abs(got-10_000.1) > 1e-6 {
		t.Errorf("an hour counts as %v ms", got)
	}
}

func TestPhaseEndsWithTheLastDelivery(t *testing.T) {
	p := newPhase(7, 100*time.Millisecond)
	for reader := range briskReaders {
		for i := range p.due {
			select {
			case <-p.done:
				t.Fatalf("done before message %d of reader %d", i, reader)
			default:
			}
			p.record(7+int64(i), 1)
		}
	}
	select {
	case <-p.done:
	default:
		t.Fatal("all has come, and it is not done")
	}
}
