package groupcommit

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestNextBatchWaitsForTheCommitUnderWay, unless that takes long or a batch would be full:
// the more wait, the fewer statements.
func TestNextBatchWaitsForTheCommitUnderWay(t *testing.T) {
	for name, tc := range map[string]struct {
		takes time.Duration // of a commit
		sends int           // while the first is under way
		full  int           // BatchMessages
		want  []int         // the batches' sizes
		took  time.Duration // the last one's, from the beginning
	}{
		"one beside a quick one waits":    {time.Millisecond, 5, 10, []int{1, 5}, 2 * time.Millisecond},
		"one beside a slow one begins":    {20 * time.Millisecond, 5, 10, []int{1, 5}, 22 * time.Millisecond},
		"a full one begins":               {20 * time.Millisecond, 10, 10, []int{1, 10}, 20 * time.Millisecond},
		"a third one waits for InFlight":  {20 * time.Millisecond, 25, 10, []int{1, 10, 10, 5}, 42 * time.Millisecond},
		"large ones are full by one send": {20 * time.Millisecond, 2, 1, []int{1, 1, 1}, 40 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{takes: tc.takes}
				w, _ := start(t, m, Options{BatchMessages: tc.full})
				began := time.Now()
				outs := []<-chan outcome{sending(t.Context(), w, message("1"))}
				synctest.Wait()
				for range tc.sends {
					outs = append(outs, sending(t.Context(), w, message("1")))
				}
				for _, out := range outs {
					if o := <-out; o.err != nil {
						t.Error(o.err)
					}
				}
				if took := time.Since(began); took != tc.took {
					t.Errorf("took %v, want %v", took, tc.took)
				}
				if got := m.begun(); !slices.Equal(got, tc.want) {
					t.Errorf("batches %v, want %v", got, tc.want)
				}
			})
		})
	}
}
