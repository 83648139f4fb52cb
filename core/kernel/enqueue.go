package kernel

import (
	"context"
	"fmt"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// enqueue sends one bag and waits until the broker has accepted it.
func (e *Engine) enqueue(ctx context.Context, bag *driver.Bag) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	fail := func(x *entry, err error) error {
		return &swarm.EmitError{Category: bag.Category, ID: bag.ID, Attempts: x.attempts, Err: err}
	}
	e.carry(ctx, bag)
	done := make(chan struct{})
	x := &entry{bag: bag, done: func(*entry) { close(done) }}
	if err := e.admit(x); err != nil {
		return fail(x, err)
	}
	if !e.sender.push(false, true, x) {
		return swarm.ErrClosed
	}
	select {
	case <-done:
	case <-ctx.Done():
		// In flight it cannot be called back: the broker may have it.
		if !e.sender.withdraw(x) && isClosed(done) {
			break // answered at the same moment
		}
		return fmt.Errorf("swarm: emit %s %s: %w", bag.Category, bag.ID, context.Cause(ctx))
	}
	if x.err != nil {
		return fail(x, x.err)
	}
	return nil
}

// carry gives a bag what its broker takes from the context of a sender.
func (e *Engine) carry(ctx context.Context, bag *driver.Bag) {
	if e.limits.Carry == nil {
		return
	}
	for name, value := range e.limits.Carry(ctx) {
		if _, own := bag.Attrs[name]; !own {
			if bag.Attrs == nil {
				bag.Attrs = map[string]string{}
			}
			bag.Attrs[name] = value
		}
	}
}

// newBag makes a bag for a synchronous caller.
func (e *Engine) newBag(category string) driver.Bag {
	var ids idBlock
	return driver.Bag{Category: category, Source: e.cfg.Source, ID: ids.one(e), SentAt: time.Now()}
}

// admit refuses what the broker would refuse, before any call.
func (e *Engine) admit(x *entry) error {
	return driver.Permanent(safely(func() error { return e.checked(x) }))
}

func (e *Engine) checked(x *entry) error {
	l := &e.limits
	switch {
	case x.bag.Group != "":
	case l.Addressed:
		x.bag.Group = x.bag.Sink
	case l.Ordered:
		x.bag.Group = x.bag.Category
	}
	if l.Check != nil {
		if err := l.Check(x.bag); err != nil {
			return err
		}
	}
	if l.Bytes > 0 {
		if l.Size != nil {
			x.size = l.Size(x.bag)
		} else {
			x.size = len(x.bag.Body)
		}
		if x.size > l.Bytes {
			return fmt.Errorf("message has %d bytes, the broker takes %d", x.size, l.Bytes)
		}
	}
	return nil
}
