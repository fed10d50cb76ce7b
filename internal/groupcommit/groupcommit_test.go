package groupcommit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// TestBatchesFormWhileACommitIsUnderWay: a lone sender commits at once; those who come
// while the slots are taken go together, and each gets its own ids.
func TestBatchesFormWhileACommitIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: 10 * time.Millisecond}
		w, _ := start(t, m, Options{InFlight: 1})
		lone := sending(t.Context(), w, message("0"))
		synctest.Wait()
		var outs []<-chan outcome
		for range 99 {
			outs = append(outs, sending(t.Context(), w, message("1"), message("2")))
		}
		if o := <-lone; o.err != nil || o.took != m.takes {
			t.Errorf("the lone sender: %+v", o)
		}
		seen := map[bus.ID]bool{}
		for _, out := range outs {
			o := <-out
			if o.err != nil || o.took != 2*m.takes || len(o.receipts) != 2 || o.receipts[1].ID != o.receipts[0].ID+1 {
				t.Fatalf("%+v, want two ids in a row after two commits", o)
			}
			seen[o.receipts[0].ID] = true
		}
		if got := m.begun(); !slices.Equal(got, []int{1, 198}) || len(seen) != 99 {
			t.Errorf("batches %v, %d different ids", got, len(seen))
		}
		if st := w.State(); st.Batches != 2 || st.Sends != 100 || st.Messages != 199 {
			t.Errorf("state %+v", st)
		}
	})
}

// TestLoneSenderCommitsByHimself: the store is called with the values of his context, though not with
// its end, which cuts off no commit; he is told what became of it.
func TestLoneSenderCommitsByHimself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: 10 * time.Millisecond}
		w, _ := start(t, m, Options{})
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), caller{}, "lone"), 5*time.Millisecond)
		defer cancel()
		for range 2 {
			if o := <-sending(ctx, w, message("1")); o.err != nil || o.took != m.takes {
				t.Errorf("%+v, want the outcome after the commit", o)
			}
			ctx = context.WithValue(t.Context(), caller{}, "lone")
		}
		if !slices.Equal(m.callers, []any{"lone", "lone"}) {
			t.Errorf("committed by %v", m.callers)
		}
	})
}

// TestPanicOfTheStoreIsTheCallersOwn: the next sender's commit begins.
func TestPanicOfTheStoreIsTheCallersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: 10 * time.Millisecond}
		m.fail = func(sends [][]bus.Message) error {
			if sends[0][0].JSON == "defect" {
				panic("a defect")
			}
			return nil
		}
		w, _ := start(t, m, Options{InFlight: 1})
		recovered := make(chan any, 1)
		go func() {
			defer func() { recovered <- recover() }()
			_, _ = w.Send(t.Context(), []bus.Message{message("defect")})
		}()
		synctest.Wait()
		next := sending(t.Context(), w, message("1"))
		if got := <-recovered; got != "a defect" {
			t.Errorf("recovered %v", got)
		}
		if o := <-next; o.err != nil {
			t.Error(o.err)
		}
	})
}

// TestFewBatchesAtOnce: not more than InFlight.
func TestFewBatchesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: 10 * time.Millisecond}
		w, _ := start(t, m, Options{BatchMessages: 1})
		var outs []<-chan outcome
		for range 20 {
			outs = append(outs, sending(t.Context(), w, message("1")))
		}
		for _, out := range outs {
			if o := <-out; o.err != nil || o.took > 10*m.takes {
				t.Errorf("%+v, want two at once", o)
			}
		}
		if m.atOnce != 2 {
			t.Errorf("%d batches at once, want 2", m.atOnce)
		}
	})
}

// TestBatchesAreBounded by messages and by bytes; a send that is larger than the bound
// goes alone, undivided, and nobody overtakes.
func TestBatchesAreBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		options Options
		size    int // bytes of each message, about
		sends   []int
		want    []int
	}{
		"messages": {Options{BatchMessages: 10}, 1, []int{1, 4, 5, 2, 8, 1, 25, 3, 3, 3}, []int{1, 9, 10, 1, 25, 9}},
		"bytes":    {Options{BatchBytes: 1000}, 100, []int{1, 4, 4, 2, 6, 12, 1, 1}, []int{1, 8, 8, 12, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{takes: time.Millisecond}
				tc.options.InFlight = 1
				w, _ := start(t, m, tc.options)
				var outs []<-chan outcome
				for _, n := range tc.sends {
					outs = append(outs, sending(t.Context(), w, slices.Repeat([]bus.Message{message(strings.Repeat("1", tc.size))}, n)...))
					synctest.Wait()
				}
				var last bus.ID
				for i, out := range outs {
					o := <-out
					if o.err != nil || len(o.receipts) != tc.sends[i] || o.receipts[0].ID != last+1 {
						t.Fatalf("send %d: %+v after id %d", i, o, last)
					}
					last = o.receipts[len(o.receipts)-1].ID
				}
				if got := m.begun(); !slices.Equal(got, tc.want) {
					t.Errorf("batches %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// TestOnlyTheCulpritFails: what the database refuses fails its own send, whole, and no
// other.
func TestOnlyTheCulpritFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{takes: time.Millisecond}
		w, _ := start(t, m, Options{InFlight: 1})
		first := sending(t.Context(), w, message("first"))
		synctest.Wait()
		culprits := []int{3, 4, 60}
		var outs []<-chan outcome
		for i := range 100 {
			bad := message("1")
			if slices.Contains(culprits, i) {
				bad.JSON = refused
			}
			outs = append(outs, sending(t.Context(), w, message("1"), bad))
			synctest.Wait()
		}
		<-first
		for i, out := range outs {
			var data *DataError
			switch o := <-out; {
			case !slices.Contains(culprits, i):
				if o.err != nil || len(o.receipts) != 2 {
					t.Errorf("send %d: %+v", i, o)
				}
			case !errors.As(o.err, &data) || !errors.Is(o.err, errRefused):
				t.Errorf("send %d: %v, want the refusal", i, o.err)
			}
		}
		if n := len(m.stored); n != 1+2*97 {
			t.Errorf("%d messages stored, want %d", n, 1+2*97)
		}
		if n := len(m.begun()); n > 40 {
			t.Errorf("%d statements to find three culprits", n)
		}
	})
}

// TestFailureReachesEverySender of the batch: that nothing was stored, or that it is not
// known, whatever was the reason; the next batch is tried as ever.
func TestFailureReachesEverySender(t *testing.T) {
	for name, want := range map[string]error{"away": bus.ErrUnavailable, "unknown": bus.ErrUnknownOutcome} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{takes: time.Millisecond}
				m.fail = func(sends [][]bus.Message) error {
					if len(sends) == 10 {
						return want
					}
					return nil
				}
				w, _ := start(t, m, Options{InFlight: 1})
				first := sending(t.Context(), w, message("1"))
				synctest.Wait()
				var outs []<-chan outcome
				for range 10 {
					outs = append(outs, sending(t.Context(), w, message("1")))
				}
				if o := <-first; o.err != nil {
					t.Error(o.err)
				}
				for _, out := range outs {
					if o := <-out; !errors.Is(o.err, want) || o.receipts != nil {
						t.Errorf("%+v, want %v", o, want)
					}
				}
				if o := <-sending(t.Context(), w, message("1")); o.err != nil {
					t.Error(o.err)
				}
			})
		})
	}
}

// TestHangingCommitEnds at its deadline, with an unknown outcome.
func TestHangingCommitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, &model{takes: time.Hour}, Options{CommitTimeout: 3 * time.Second})
		if o := <-sending(t.Context(), w, message("1")); !errors.Is(o.err, bus.ErrUnknownOutcome) || o.took != 3*time.Second {
			t.Errorf("%+v, want %v after 3 s", o, bus.ErrUnknownOutcome)
		}
	})
}

// TestStoredIsToldBeforeTheAnswer: whoever reads his own message right after Send finds
// it.
func TestStoredIsToldBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(map[bus.ID]bool)
		m := &model{takes: time.Millisecond}
		w, _ := start(t, m, Options{InFlight: 1, Stored: func(ns []*bus.Notification) {
			if !slices.IsSortedFunc(ns, func(a, b *bus.Notification) int { return int(a.ID - b.ID) }) {
				t.Error("not ascending")
			}
			time.Sleep(time.Millisecond) // nobody is answered meanwhile
			for _, n := range ns {
				told[n.ID] = true
			}
		}})
		for range 50 {
			receipts, err := w.Send(context.Background(), []bus.Message{message("1"), message("2")})
			if err != nil || !told[receipts[0].ID] || !told[receipts[1].ID] {
				t.Fatalf("%v, %v: answered before it was told", receipts, err)
			}
		}
	})
}
