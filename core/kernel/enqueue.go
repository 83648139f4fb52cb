package kernel

import (
	"context"
	"fmt"
	"maps"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// enqueue sends one bag and waits until the broker has accepted it.
func (e *Engine) enqueue(ctx context.Context, bag *driver.Bag) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	done := make(chan struct{})
	x := &entry{bag: bag, done: func(*entry) { close(done) }}
	return e.account(ctx, x, func() error { return e.post(ctx, x, done) })
}

// reject is what becomes of a value that cannot be encoded.
func (e *Engine) reject(ctx context.Context, bag *driver.Bag, err error) error {
	x := &entry{bag: bag}
	return e.account(ctx, x, func() error { return x.failed(err) })
}

// account keeps the books of a synchronous caller.
func (e *Engine) account(ctx context.Context, x *entry, post func() error) error {
	e.callers.add(1)
	defer e.callers.add(-1)
	x.book = e.emittedOf(x.bag.Category)
	if isClosed(e.refusing) {
		x.book.refused()
		return swarm.ErrClosed
	}
	open := int64(0)
	x.book.accepted(&open)
	e.carry(ctx, x)
	err := post()
	if err == nil {
		x.book.confirmed(&open)
	} else {
		x.book.returned(&open)
	}
	if e.observers != nil {
		e.observers.concluded(sent(x.bag, x.attempts), err)
	}
	return err
}

// failed is why an entry was not sent.
func (x *entry) failed(err error) error {
	return &swarm.EmitError{Category: x.bag.Category, ID: x.bag.ID, Attempts: x.attempts, Err: err}
}

// post sends an entry and waits for its outcome.
func (e *Engine) post(ctx context.Context, x *entry, done <-chan struct{}) error {
	if err := e.admit(x); err != nil {
		return x.failed(err)
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
		return fmt.Errorf("swarm: emit %s %s: %w", x.bag.Category, x.bag.ID, context.Cause(ctx))
	}
	if x.err != nil {
		return x.failed(x.err)
	}
	return nil
}

// carry gives a bag what its broker and observers take from the context of a sender.
// Observers have the last word, but nobody has one on what the bag had before.
func (e *Engine) carry(ctx context.Context, x *entry) {
	var broker, observed map[string]string
	if e.limits.Carry != nil {
		// The context is somebody else's code.
		_ = safely(func() error { broker = e.limits.Carry(ctx); return nil })
	}
	if e.observers != nil {
		observed = e.observers.accepted(ctx, sent(x.bag, 0))
		if e.limits.Attrs != nil {
			observed = only(e.limits.Attrs, observed)
		}
	}
	if len(broker)+len(observed) == 0 {
		return
	}
	attrs := merge(merge(broker, observed), x.bag.Attrs)
	x.bare, x.bag.Attrs, x.carried = x.bag.Attrs, attrs, true
}

// merge is the union of attributes, where those of b win. It changes neither: a hook may
// answer the same map again and again.
func merge(a, b map[string]string) map[string]string {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	out := make(map[string]string, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// only is the attributes of these names.
func only(names []string, attrs map[string]string) map[string]string {
	out := make(map[string]string, len(names))
	for _, name := range names {
		if value, ok := attrs[name]; ok {
			out[name] = value
		}
	}
	return out
}

// newBag makes a bag for a synchronous caller.
func (e *Engine) newBag(category string) driver.Bag {
	var ids idBlock
	return driver.Bag{Category: category, Source: e.cfg.Source, ID: ids.one(e), SentAt: time.Now()}
}

// admit refuses what the broker would refuse, before any call. No message is refused for
// what was added to it.
func (e *Engine) admit(x *entry) error {
	err := safely(func() error { return e.checked(x) })
	if err != nil && x.carried {
		x.bag.Attrs = x.bare
		err = safely(func() error { return e.checked(x) })
	}
	return driver.Permanent(err)
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
