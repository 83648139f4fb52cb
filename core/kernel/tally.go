package kernel

import (
	"context"
	"sync"
	"sync/atomic"
)

// tally counts what is under way, and lets one wait until nothing is. Counting is
// one atomic addition while nobody waits.
type tally struct {
	n       atomic.Int64
	waiting atomic.Bool

	mu   sync.Mutex
	zero chan struct{}
}

func (t *tally) add(delta int) {
	if t.n.Add(int64(delta)) == 0 && t.waiting.Load() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.zero != nil && t.n.Load() == 0 {
			close(t.zero)
			t.zero = nil
			t.waiting.Store(false)
		}
	}
}

func (t *tally) count() int { return int(t.n.Load()) }

// wait returns nil once the count is zero, or the cause of the end of ctx.
func (t *tally) wait(ctx context.Context) error {
	for {
		t.mu.Lock()
		if t.zero == nil {
			t.zero = make(chan struct{})
		}
		zero := t.zero
		// Announce before looking: whoever reaches zero from now on closes zero.
		t.waiting.Store(true)
		done := t.n.Load() == 0
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-zero:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
