package kernel

import (
	"context"
	"sync"
	"time"
)

// deadline is the end of a shutdown, and of its stages, which end earlier by a part of
// the time that was given. Each call of Close or Shutdown may bring it forward.
type deadline struct {
	mu     sync.Mutex
	at     time.Time     // zero: there is none yet
	given  time.Duration // from the call to at
	stages []stage
}

type stage struct {
	reserve float64
	cancel  context.CancelFunc
	timer   *time.Timer
}

// bring sets the deadline, unless it is earlier already.
func (d *deadline) bring(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.at.IsZero() && !at.Before(d.at) {
		return
	}
	d.at, d.given = at, max(0, time.Until(at))
	for i := range d.stages {
		d.set(&d.stages[i])
	}
}

// stage is a context that ends before the deadline, by a part of the time given.
func (d *deadline) stage(reserve float64) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	d.mu.Lock()
	defer d.mu.Unlock()
	s := stage{reserve: reserve, cancel: cancel}
	if !d.at.IsZero() {
		d.set(&s)
	}
	d.stages = append(d.stages, s)
	return ctx
}

func (d *deadline) set(s *stage) {
	if s.timer != nil {
		s.timer.Stop()
	}
	left := time.Until(d.at) - time.Duration(float64(d.given)*s.reserve)
	if left <= 0 {
		s.cancel()
		return
	}
	s.timer = time.AfterFunc(left, s.cancel)
}

// end frees what the stages hold.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.stages {
		if s.timer != nil {
			s.timer.Stop()
		}
		s.cancel()
	}
}
