package kernel

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// observers are told what the kernel does. A kernel without any has a nil one: who has
// something to tell looks first, and prepares nothing.
type observers struct {
	list   []swarm.Observer
	report *reporter
	once   sync.Once // of panics, the first is reported
}

func newObservers(list []swarm.Observer, report *reporter) *observers {
	if len(list) == 0 {
		return nil
	}
	return &observers{list: slices.Clone(list), report: report}
}

// guard calls code of an observer.
func (o *observers) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			o.once.Do(func() { o.report.report(fmt.Errorf("swarm: observer panicked: %v", p)) })
		}
	}()
	f()
}

// accepted returns the attributes that are to travel.
func (o *observers) accepted(ctx context.Context, e swarm.Envelope) (attrs map[string]string) {
	for i := range o.list {
		if hook := o.list[i].Accepted; hook != nil {
			o.guard(func() {
				for name, value := range hook(ctx, e) {
					if attrs == nil {
						attrs = map[string]string{}
					}
					attrs[name] = value
				}
			})
		}
	}
	return attrs
}

func (o *observers) retried(e swarm.Envelope, err error) {
	for i := range o.list {
		if hook := o.list[i].Retried; hook != nil {
			o.guard(func() { hook(e, err) })
		}
	}
}

func (o *observers) ended(e swarm.Envelope, err error) {
	for i := range o.list {
		if hook := o.list[i].Ended; hook != nil {
			o.guard(func() { hook(e, err) })
		}
	}
}

func (o *observers) received(e swarm.Envelope) {
	for i := range o.list {
		if hook := o.list[i].Received; hook != nil {
			o.guard(func() { hook(e) })
		}
	}
}

func (o *observers) handed(ctx context.Context, e swarm.Envelope) context.Context {
	for i := range o.list {
		if hook := o.list[i].Handed; hook != nil {
			o.guard(func() {
				if next := hook(ctx, e); next != nil {
					ctx = next
				}
			})
		}
	}
	return ctx
}

func (o *observers) settled(ctx context.Context, e swarm.Envelope, s swarm.Settlement) {
	for i := range o.list {
		if hook := o.list[i].Settled; hook != nil {
			o.guard(func() { hook(ctx, e, s) })
		}
	}
}

func (o *observers) ignored(category string, err error) {
	for i := range o.list {
		if hook := o.list[i].Ignored; hook != nil {
			o.guard(func() { hook(category, err) })
		}
	}
}

func (o *observers) closed(err error) {
	for i := range o.list {
		if hook := o.list[i].Closed; hook != nil {
			o.guard(func() { hook(err) })
		}
	}
}

// request makes a call of the broker, which answers what it has received.
func (o *observers) request(ctx context.Context, r swarm.Request, call func(context.Context) ([]swarm.Envelope, error)) error {
	var ends []func(swarm.Answer)
	for i := range o.list {
		if hook := o.list[i].Request; hook != nil {
			o.guard(func() {
				next, end := hook(ctx, r)
				if next != nil {
					ctx = next
				}
				if end != nil {
					ends = append(ends, end)
				}
			})
		}
	}
	answer := swarm.Answer{}
	answer.Err = safely(func() (err error) {
		answer.Received, err = call(ctx)
		return err
	})
	if answer.Err != nil {
		answer.Failed = outcomesOf(len(r.Messages), answer.Err).failures(len(r.Messages))
	}
	for _, end := range slices.Backward(ends) {
		o.guard(func() { end(answer) })
	}
	return answer.Err
}

// sent is the envelope of a bag that is emitted.
func sent(bag *driver.Bag, attempts int) swarm.Envelope {
	return swarm.Envelope{Category: bag.Category, ID: bag.ID, Size: len(bag.Body), Attempt: attempts, SentAt: bag.SentAt, Attrs: bag.Attrs}
}

// received is the envelope of a bag that came: its category is a foreigner's word, unless
// somebody listens to it.
func (e *Engine) received(bag *driver.Bag) swarm.Envelope {
	out := sent(bag, bag.Attempt)
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.inlets[e.category(bag)] == nil {
		out.Category = ""
	}
	return out
}

// receivedAll are the envelopes of an answer.
func (e *Engine) receivedAll(bags []driver.Bag) []swarm.Envelope {
	out := make([]swarm.Envelope, len(bags))
	for i := range bags {
		out[i] = e.received(&bags[i])
	}
	return out
}

// trace is what observers know of a delivery.
type trace struct {
	envelope swarm.Envelope
	once     sync.Once // a consumer has it, or it has ended before
	began    time.Time
	ctx      context.Context // as observers made it; nil: no consumer has had it
}

// begin tells observers, once, that a consumer has the message: when the lane notes it, or
// when the consumer asks the message for its context, whichever is first.
func (d *Delivery) begin() {
	t := d.trace
	t.once.Do(func() {
		t.began = time.Now()
		ctx := d.batch.engine.observers.handed(d.batch.base, t.envelope)
		t.ctx = values{d.batch.base, ctx}
	})
}

// concluded tells observers how a delivery has ended.
func (d *Delivery) concluded(outcome swarm.Outcome, err error) {
	t := d.trace
	t.once.Do(func() {}) // from now on nobody begins
	ctx, took := d.batch.base, time.Duration(0)
	if t.ctx != nil {
		ctx, took = t.ctx, time.Since(t.began)
	}
	d.batch.engine.observers.settled(ctx, t.envelope, swarm.Settlement{Outcome: outcome, Err: err, Took: took})
}

// values is a context with the values of another one.
type values struct {
	context.Context
	of context.Context
}

func (v values) Value(key any) any { return v.of.Value(key) }
