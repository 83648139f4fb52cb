package lambda

import (
	"errors"
	"runtime"
	"testing"
	"time"
)

// The time to start is up for a process that has run for long, and means nothing then.
func TestTheTimeToStartDoesNotCountOnceAProcessIsReady(t *testing.T) {
	in := &instance{made: time.Now().Add(-time.Hour), ready: make(chan struct{}), exited: make(chan struct{})}
	close(in.ready)
	for range 10_000 {
		if err := in.started(); err != nil {
			t.Fatal(err)
		}
	}
	close(in.exited)
	if err := in.started(); err != nil { // it was ready: the next process gets the event
		t.Error(err)
	}
}

func TestAProcessThatIsNotReadyInTimeIsEnded(t *testing.T) {
	in := &instance{rt: &Runtime{}, made: time.Now().Add(-time.Hour), ready: make(chan struct{}), exited: make(chan struct{})}
	close(in.exited)
	if err := in.started(); !errors.Is(err, ErrExit) {
		t.Errorf("got %v", err)
	}
	in.exited = make(chan struct{})
	go func() {
		for asked := false; !asked; {
			in.mu.Lock()
			asked = in.asked
			in.mu.Unlock()
			runtime.Gosched()
		}
		close(in.exited)
	}()
	if err := in.started(); !errors.Is(err, ErrInit) {
		t.Errorf("got %v", err)
	}
}
