package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// call is the context of broker calls, one at a time. It ends when a call takes too
// long or the kernel is cut off, and is used again after a call that returned in
// time: a context with a deadline for each call would cost more than a call of the
// in-memory broker.
type call struct {
	parent context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

func newCall(parent context.Context, limit time.Duration) *call {
	return &call{parent: parent, limit: limit}
}

// do runs f under the time limit. A panic of the driver becomes its error.
func (c *call) do(f func(context.Context) error) (err error) {
	if c.ctx == nil {
		c.ctx, c.cancel = context.WithCancelCause(c.parent)
		cancel, limit := c.cancel, c.limit
		c.timer = time.AfterFunc(limit, func() { cancel(fmt.Errorf("no answer in %s: %w", limit, context.DeadlineExceeded)) })
	} else {
		c.timer.Reset(c.limit)
	}
	defer func() {
		if !c.timer.Stop() || c.ctx.Err() != nil {
			// The context is spent. Say why it ended, if that is why f failed.
			if err != nil && c.ctx.Err() != nil {
				err = because(c.ctx, err)
			}
			c.cancel(nil)
			c.ctx = nil
		}
	}()
	return safely(func() error { return f(c.ctx) })
}

// safely runs f, code of a driver; a panic in it becomes the error.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("swarm: driver panicked: %v", p)
		}
	}()
	return f()
}

// end frees the context of a call that is not used any more.
func (c *call) end() {
	if c.ctx != nil {
		c.timer.Stop()
		c.cancel(nil)
		c.ctx = nil
	}
}

// because puts the cause of the end of ctx into an error that says no more than that it
// has ended.
func because(ctx context.Context, err error) error {
	switch {
	case err == context.Canceled, err == context.DeadlineExceeded:
		return context.Cause(ctx)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
