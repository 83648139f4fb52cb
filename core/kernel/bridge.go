package kernel

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// invocation is one batch that was pushed, with its own state: what comes back late
// settles nothing else. Its times are in order: messages are settled, what they caused to
// be emitted is flushed, the source has its answer.
type invocation struct {
	began  time.Time
	settle time.Time // zero: each message has TimeToFlight, and the batch no end
	flush  time.Time

	served chan struct{} // closed: each of its messages is settled
	once   sync.Once
	failed chan struct{} // closed: one of them was nacked; nil: that does not matter
}

// begin divides the time of an invocation, which ends at the deadline of ctx or with
// TimeToFlight. A source without deadlines is one of a service.
func (e *Engine) begin(ctx context.Context, now time.Time) *invocation {
	call := &invocation{began: now, served: make(chan struct{})}
	if e.limits.Whole {
		call.failed = make(chan struct{})
	}
	end, ok := ctx.Deadline()
	if !ok {
		return call
	}
	if e.flight > 0 && now.Add(e.flight).Before(end) {
		end = now.Add(e.flight)
	}
	total := max(0, end.Sub(now))
	answer := min(total/5, 500*time.Millisecond, max(total/20, 50*time.Millisecond))
	flush := min(total/4, 2*time.Second, max(total/10, 200*time.Millisecond))
	call.flush = end.Add(-answer)
	call.settle = call.flush.Add(-flush)
	return call
}

func (c *invocation) nacked() {
	if c.failed != nil {
		c.once.Do(func() { close(c.failed) })
	}
}

// serve processes a batch that was pushed: it is the [driver.Serve] of runners. At most
// once a message is acknowledged by the hand-over: the answer does not wait for consumers.
func (e *Engine) serve(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
	if len(bags) == 0 {
		return nil, nil
	}
	if e.isClosing() {
		return nil, swarm.ErrClosed
	}
	emitted := e.cfg.Barrier.Begin()
	defer emitted.End()
	call := e.begin(ctx, time.Now())
	base, cancel := ctx, context.CancelFunc(func() {})
	if !call.settle.IsZero() {
		base, cancel = context.WithDeadlineCause(ctx, call.settle, swarm.ErrTimeToFlight)
	}
	defer cancel()

	of := base
	if e.cfg.AtMostOnce {
		of = context.WithoutCancel(ctx) // consumers go on after the answer
	}
	b := e.newBatch(of, bags, e.cfg.AtMostOnce)
	b.call = call
	e.take(b)
	select {
	case <-call.served:
	case <-call.failed:
		for i := range b.deliveries {
			b.deliveries[i].release(errAbandoned)
		}
	case <-base.Done():
		for i := range b.deliveries {
			b.deliveries[i].fail(swarm.OutcomeExpired, "expire", context.Cause(base))
		}
	}
	<-call.served

	var err error
	if slices.ContainsFunc(bags, func(bag driver.Bag) bool { return bag.Err == nil }) { // else nobody was handed anything
		if call.flush.IsZero() {
			call.flush = time.Now().Add(e.cfg.TimeToFlight)
		}
		err = emitted.Flush(ctx, call.flush)
	}
	if err != nil && e.cfg.AtMostOnce { // the messages were acknowledged by the hand-over
		e.report.report(err)
		err = nil
	}
	if e.observers != nil && !call.settle.IsZero() { // the process may be frozen
		told, cancel := context.WithTimeout(ctx, min(observed, time.Until(call.flush)))
		_ = e.observers.wait(told)
		cancel()
	}
	out := make([]driver.Settlement, len(b.deliveries))
	for i := range b.deliveries {
		out[i] = b.deliveries[i].entry.verdict
	}
	return out, err
}

// errAbandoned is why a message was given back with the others of its invocation.
var errAbandoned = errors.New("swarm: another message of the invocation failed")
