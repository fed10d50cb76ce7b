package tests

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// G8: readers that stall before many times what the node may keep for them cost it bounded memory, cut nobody off, delay none
// of a crowd of others, and are given everything on the stream that they stalled on. Not beside other tests: it looks
// at the heap.
func TestStalledReadersCostBoundedMemory(t *testing.T) {
	const (
		windowBytes = 1 << 20
		size        = 1_000_000
		sends       = 24
		stalledOnes = 2
		// The window, and for each stalled stream the responses that are on their way: about 1 MiB each.
		heapBound = windowBytes + stalledOnes*(4<<20)
	)
	others := pick(100, 1000)
	n := startNode(t, pgtest.Database(t), nodeOptions{WindowBytes: windowBytes})
	var stalled []*stream
	for range stalledOnes {
		stalled = append(stalled, stall(t, n, "heavy"))
	}
	crowd := gather(t, n, slices.Repeat([][]string{{"light"}}, others))

	before := heap()
	var ids []int64
	want := numbered("light", sends)
	for _, text := range want {
		heavy := &postbusv1.Message{Channel: "heavy", Body: &postbusv1.Message_Binary{Binary: []byte(strings.Repeat("x", size))}}
		ids = append(ids, n.send(t, heavy, message("light", text))[0].GetId())
	}
	n.send(t, message("light", "end"))
	crowd.reading.Wait() // everything, while others stall
	if t.Failed() {
		return
	}
	for _, texts := range crowd.texts {
		equal(t, "beside stalled readers", texts, want)
	}
	if grown := heap() - before; grown > heapBound {
		t.Errorf("the heap has grown by %d bytes for %d stalled readers of %d bytes, its bound is %d", grown, stalledOnes, sends*size, heapBound)
	} else {
		t.Logf("the heap has grown by %d bytes", grown)
	}
	if bytes := n.dispatcher.State().WindowBytes; bytes > windowBytes+size+1000 {
		t.Errorf("the window has %d bytes, its bound is %d", bytes, windowBytes)
	}
	if open := n.service.Stats().OpenStreams; open != int64(stalledOnes+others) {
		t.Errorf("%d streams are open, want %d: somebody was cut off", open, stalledOnes+others)
	}
	for _, s := range stalled {
		var got []int64
		for range ids {
			if m := s.next(); len(m.GetBinary()) == size {
				got = append(got, m.GetId())
			}
		}
		if !slices.Equal(got, ids) || len(s.gaps) > 0 {
			t.Fatalf("a reader that stalled was given %v and gaps %v, want %v", got, s.gaps, ids)
		}
	}
}

// heap returns the bytes that are in use, of what is not garbage.
func heap() int {
	var stats runtime.MemStats
	for range 2 { // what a pool keeps goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}
