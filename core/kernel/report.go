package kernel

import (
	"fmt"
	"log/slog"
	"sync"

	swarm "github.com/fogfish/swarm/core"
)

// stderrQueue is how many errors wait for a reader of StdErr.
const stderrQueue = 1000

// reporter tells errors that belong to no message the user holds: to the log, and to
// StdErr. It never blocks its callers. A goroutine feeds StdErr as long as there is
// something to feed.
type reporter struct {
	log    *slog.Logger
	stderr chan<- error

	mu       sync.Mutex
	queue    []error
	overflow int
	feeding  bool
	idle     chan struct{} // closed when the feeder has ended, if somebody waits
	ended    chan struct{} // closed when the kernel has
}

func newReporter(log *slog.Logger, stderr chan<- error) *reporter {
	return &reporter{log: log, stderr: stderr, ended: make(chan struct{})}
}

func (r *reporter) report(err error) {
	r.log.Error("swarm", attrs(err)...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stderr == nil {
		return
	}
	if len(r.queue) >= stderrQueue {
		r.overflow++
		return
	}
	r.queue = append(r.queue, err)
	if !r.feeding {
		r.feeding = true
		go r.feed()
	}
}

func (r *reporter) feed() {
	for {
		r.mu.Lock()
		if len(r.queue) == 0 && r.overflow > 0 {
			r.queue = append(r.queue, fmt.Errorf("swarm: StdErr was not read, %d errors are in the log only", r.overflow))
			r.overflow = 0
		}
		if len(r.queue) == 0 {
			r.feeding = false
			if r.idle != nil {
				close(r.idle)
				r.idle = nil
			}
			r.mu.Unlock()
			return
		}
		err := r.queue[0]
		r.queue[0] = nil
		r.queue = r.queue[1:]
		r.mu.Unlock()
		if !r.offer(err) {
			r.log.Warn("swarm: StdErr takes no more errors")
			r.mu.Lock()
			r.queue, r.overflow, r.stderr = nil, 0, nil
			r.mu.Unlock()
		}
	}
}

// offer reports false when the user has closed the channel: it is his to close, and
// no reason to end his process.
func (r *reporter) offer(err error) (open bool) {
	defer func() { open = recover() == nil }()
	select {
	case r.stderr <- err:
		return
	default:
	}
	select {
	case r.stderr <- err:
	case <-r.ended:
	}
	return
}

// flushed returns a channel that is closed when StdErr has got everything.
func (r *reporter) flushed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	if !r.feeding {
		close(r.idle)
		r.idle = nil
	}
	return idle
}

// attrs are the fields of an error, for the log. What it wraps may be the user's, and is not
// looked into: an error that is nil inside would panic.
func attrs(err error) []any {
	switch e := err.(type) {
	case *swarm.EmitError:
		return []any{"op", "emit", "category", e.Category, "id", e.ID, "attempts", e.Attempts, "err", e.Err}
	case *swarm.ListenError:
		return []any{"op", e.Op, "category", e.Category, "id", e.ID, "attempt", e.Attempt, "err", e.Err}
	case *swarm.CountError:
		return []any{"op", "emit", "category", e.Category, "count", e.Count, "err", e.Err}
	}
	return []any{"err", err}
}
