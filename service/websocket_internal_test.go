package service

import (
	"fmt"
	"slices"
	"testing"
)

// Of more pings than the bound the newest are answered.
func TestPongsThatWaitAreBounded(t *testing.T) {
	k := new(socket)
	k.pongs.written = true // by somebody, who is held up
	for i := range 1000 {
		if err := k.pinged(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var answered []string
	for payload, ok := k.pongs.next(); ok; payload, ok = k.pongs.next() {
		answered = append(answered, payload)
	}
	if len(answered) != maxPongs || !slices.Contains(answered, "999") || k.pongs.written {
		t.Errorf("answered %v", answered)
	}
}
