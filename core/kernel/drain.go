package kernel

import (
	"context"
	"errors"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// grace is what is left for lanes to report, and for StdErr to be read, once the
// deadline of a shutdown has passed.
const grace = 100 * time.Millisecond

// drain ends the kernel. The order is the point: each step makes the next one finite.
func (e *Engine) drain(ctx context.Context, cause error) error {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.hasty, cancel)()
	defer e.hasten()
	left := swarm.DrainError{Err: cause}

	// Stop asking: from here on the number of messages only falls. The lock is
	// against a Run that is just starting its pollers.
	e.mu.Lock()
	e.stop()
	e.mu.Unlock()
	consumers, cancel := e.before(ctx, began, 1.0/5)
	defer cancel()
	_ = e.polls.wait(consumers)

	// Hand over nothing more: lanes release what they hold and close deq, which ends
	// the loops of consumers.
	close(e.closing)
	_ = e.inletsOpen.wait(consumers)

	// Let consumers finish what they have. They may still emit: replies.
	if e.working.wait(consumers) != nil {
		left.Unsettled = e.expel()
	}

	// Accept nothing more, and send what was accepted.
	emits, cancel := e.before(ctx, began, 1.0/20)
	defer cancel()
	if e.sender != nil {
		e.sender.refuseSync()
	}
	close(e.refusing)
	_ = e.flushing.wait(emits)
	if e.sender != nil {
		_ = e.sender.pending.wait(emits)
	}

	// Settlements were under way all the time; wait for the last ones. Some wait
	// themselves, for an extension of their lease.
	if e.settler != nil {
		_ = e.helpers.wait(ctx)
		_ = e.settler.pending.wait(ctx)
	}

	// Cut off what is left, in the queues first: a call that is cut off may not be
	// repeated.
	if e.sender != nil {
		e.sender.abort(swarm.ErrUndelivered)
	}
	if e.settler != nil {
		e.settler.abort(swarm.ErrClosed)
	}
	e.sever(swarm.ErrClosed)

	// Lanes give up what came back, and close dlq.
	close(e.severed)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	_ = e.outletsOpen.wait(last)
	for _, r := range []*requests{e.sender, e.settler} {
		if r != nil {
			_ = r.working.wait(last)
		}
	}

	// The driver last: nobody calls it any more.
	if err := e.closer.Close(); err != nil {
		left.Err = errors.Join(left.Err, err)
	}
	left.Undelivered = int(e.undelivered.Load())
	left.Unconfirmed = int(e.unconfirmed.Load())
	var result error
	if left.Err != nil || left.Undelivered+left.Unsettled+left.Unconfirmed > 0 {
		result = &left
		e.report.report(result)
	}
	select {
	case <-e.report.flushed():
	case <-last.Done():
	}
	close(e.report.ended)
	return result
}

// before is a context that ends before ctx does, by a part of the time from began.
func (e *Engine) before(ctx context.Context, began time.Time, part float64) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	reserve := time.Duration(float64(deadline.Sub(began)) * part)
	return context.WithDeadline(ctx, deadline.Add(-reserve))
}

// expel nacks what consumers have not settled in time, and counts it.
func (e *Engine) expel() int {
	n := 0
	for _, d := range e.keeper.open() {
		if d.settle(driver.Nack, e.later(d.bag.Attempt), swarm.ErrClosed) {
			n++
		}
	}
	return n
}
