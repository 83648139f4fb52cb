package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	swarm "github.com/fogfish/swarm/core"
)

// grace is what is left for lanes to report, for the driver to close, and for StdErr to
// be read, once the deadline of a shutdown has passed.
const grace = 100 * time.Millisecond

// drain ends the kernel. The order is the point: each step makes the next one finite.
func (e *Engine) drain(cause error) error {
	left := swarm.DrainError{Err: cause}
	consumers, emits, settlements := e.deadline.stage(1.0/5), e.deadline.stage(1.0/20), e.deadline.stage(0)
	defer e.deadline.end()

	// Ask no more, and hand over nothing more: lanes release what they hold and close
	// deq, which ends the loops of consumers. What a receive still brings is released.
	// The lock is against a Run that is just starting its pollers.
	e.mu.Lock()
	e.stop()
	for _, p := range e.pollers {
		p.end()
	}
	e.mu.Unlock()
	close(e.closing)
	e.waitBriefly(e.inletsOpen.wait, consumers)

	// Let consumers finish what they have. They may still emit: replies.
	_ = e.working.wait(consumers)
	_ = e.polls.wait(consumers)
	left.Unsettled = e.expel()

	// Accept nothing more, and send what was accepted.
	e.sender.refuseSync()
	close(e.refusing)
	_ = e.flushing.wait(emits)
	_ = e.sender.pending.wait(emits)

	// Settlements were under way all the time; wait for the last ones. Some wait
	// themselves, for an extension of their lease.
	_ = e.helpers.wait(settlements)
	_ = e.settler.pending.wait(settlements)

	// Cut off what is left, in the queues first: a call that is cut off may not be
	// repeated.
	e.keeper.close()
	e.sender.abort(swarm.ErrUndelivered)
	e.settler.abort(swarm.ErrClosed)
	e.sever(swarm.ErrClosed)
	for _, p := range e.pollers {
		p.cut()
	}

	// Lanes give up what came back, and close dlq. Goroutines that were in a call end.
	close(e.severed)
	last, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	for _, t := range []*tally{&e.outletsOpen, &e.callers, &e.helpers, &e.polls, &e.sender.working, &e.settler.working} {
		_ = t.wait(last)
	}

	// The driver last: nobody calls it any more.
	if err := e.closeDriver(last); err != nil {
		left.Err = errors.Join(left.Err, err)
	}
	left.Undelivered = int(e.undelivered.Load()) + e.hung()
	left.Unconfirmed = int(e.unconfirmed.Load()) + e.deferred.count()
	left.Lost = int(e.lost.Load())
	var result error
	if left.Err != nil || left.Undelivered+left.Unsettled+left.Unconfirmed+left.Lost > 0 {
		result = &left
		e.report.report(result)
	}
	if e.observers != nil {
		e.observers.closed(result)
		e.waitBriefly(e.observers.finish, settlements)
	}
	select {
	case <-e.report.flushed():
	case <-time.After(grace):
	}
	close(e.report.ended)
	<-e.report.flushed() // nothing blocks it any more: StdErr is the user's again
	return result
}

// hung counts the values of lanes that have not ended: an encoder, or an observer, hangs.
func (e *Engine) hung() (n int) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for o := range e.outlets {
		o.book.mu.Lock()
		n += int(o.open)
		o.book.mu.Unlock()
	}
	return n
}

// waitBriefly waits for what ends at once, unless something hangs: also when the time of
// the stage is over.
func (e *Engine) waitBriefly(wait func(context.Context) error, stage context.Context) {
	if wait(stage) != nil {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		_ = wait(ctx)
	}
}

// expel ends what consumers have not settled in time, and counts it, and what a lane
// still holds because its decoder hangs.
func (e *Engine) expel() (unsettled int) {
	for _, d := range e.keeper.open() {
		if d.batch.acked {
			e.lose(d)
		} else if !d.wasHanded() {
			d.release(swarm.ErrClosed)
		} else if d.end(swarm.OutcomeExpired, e.later(d.bag.Attempt), swarm.ErrClosed) {
			unsettled++
		}
	}
	return unsettled
}

// closeDriver does not wait longer than ctx for a driver that hangs.
func (e *Engine) closeDriver(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("swarm: driver panicked: %v", p)
			}
		}()
		done <- e.closer.Close()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return errors.New("swarm: driver does not close")
	}
}
