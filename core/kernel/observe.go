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
//
// Hooks that change something are called where it happens. What the others are to be told
// goes through a queue: nothing waits for them but the end of the kernel, and that of an
// invocation, for a while. A goroutine tells as long as there is something to tell.
type observers struct {
	list   []swarm.Observer
	wants  swarm.Observer // has the hooks that any of them has
	report *reporter
	panics sync.Once // the first is reported
	losses sync.Once // as well

	mu      sync.Mutex
	queue   []event
	telling bool
	idle    chan struct{} // closed when all is told, if somebody waits
	ended   bool          // Closed is in the queue: nothing comes behind it
}

// observerQueue is how many events wait for an observer that is slow.
const observerQueue = 10_000

// event is what a hook is called with, one that changes nothing.
type event struct {
	hook       func(*swarm.Observer, *event)
	ctx        context.Context
	envelope   swarm.Envelope
	err        error
	settlement swarm.Settlement
}

func newObservers(list []swarm.Observer, report *reporter) *observers {
	if len(list) == 0 {
		return nil
	}
	o := &observers{list: slices.Clone(list), report: report}
	for i := range list {
		l := &list[i]
		if l.Retried != nil {
			o.wants.Retried = l.Retried
		}
		if l.Ended != nil {
			o.wants.Ended = l.Ended
		}
		if l.Received != nil {
			o.wants.Received = l.Received
		}
		if l.Settled != nil {
			o.wants.Settled = l.Settled
		}
		if l.Ignored != nil {
			o.wants.Ignored = l.Ignored
		}
	}
	return o
}

// guard calls code of an observer.
func (o *observers) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			o.panics.Do(func() { o.report.report(fmt.Errorf("swarm: observer panicked: %v", p)) })
		}
	}()
	f()
}

// tell queues an event.
func (o *observers) tell(e event) { o.push(e, false) }

func (o *observers) push(e event, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	if o.ended = last; len(o.queue) >= observerQueue && !last {
		o.losses.Do(func() {
			go o.report.report(fmt.Errorf("swarm: an observer is too slow: %d events wait for it, more are not told", observerQueue))
		})
		return
	}
	o.queue = append(o.queue, e)
	if !o.telling {
		o.telling = true
		go o.work()
	}
}

func (o *observers) work() {
	var events []event
	for {
		clear(events)
		o.mu.Lock()
		events, o.queue = o.queue, events[:0]
		if len(events) == 0 {
			o.telling = false
			if o.idle != nil {
				close(o.idle)
				o.idle = nil
			}
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		for i := range events {
			for k := range o.list {
				o.guard(func() { events[i].hook(&o.list[k], &events[i]) })
			}
		}
	}
}

// wait returns when all was told, or ctx has ended.
func (o *observers) wait(ctx context.Context) {
	o.mu.Lock()
	if !o.telling {
		o.mu.Unlock()
		return
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

func (o *observers) retried(e swarm.Envelope, err error) {
	if o.wants.Retried == nil {
		return
	}
	o.tell(event{envelope: e, err: err, hook: func(o *swarm.Observer, e *event) {
		if o.Retried != nil {
			o.Retried(e.envelope, e.err)
		}
	}})
}

func (o *observers) concluded(e swarm.Envelope, err error) {
	if o.wants.Ended == nil {
		return
	}
	o.tell(event{envelope: e, err: err, hook: func(o *swarm.Observer, e *event) {
		if o.Ended != nil {
			o.Ended(e.envelope, e.err)
		}
	}})
}

func (o *observers) received(e swarm.Envelope) {
	if o.wants.Received == nil {
		return
	}
	o.tell(event{envelope: e, hook: func(o *swarm.Observer, e *event) {
		if o.Received != nil {
			o.Received(e.envelope)
		}
	}})
}

func (o *observers) settled(ctx context.Context, e swarm.Envelope, s swarm.Settlement) {
	if o.wants.Settled == nil {
		return
	}
	o.tell(event{ctx: ctx, envelope: e, settlement: s, hook: func(o *swarm.Observer, e *event) {
		if o.Settled != nil {
			o.Settled(e.ctx, e.envelope, e.settlement)
		}
	}})
}

func (o *observers) ignored(category string, err error) {
	if o.wants.Ignored == nil {
		return
	}
	o.tell(event{envelope: swarm.Envelope{Category: category}, err: err, hook: func(o *swarm.Observer, e *event) {
		if o.Ignored != nil {
			o.Ignored(e.envelope.Category, e.err)
		}
	}})
}

// closed is the last event.
func (o *observers) closed(err error) {
	o.push(event{err: err, hook: func(o *swarm.Observer, e *event) {
		if o.Closed != nil {
			o.Closed(e.err)
		}
	}}, true)
}

// accepted returns the attributes that are to travel.
func (o *observers) accepted(ctx context.Context, e swarm.Envelope) (attrs map[string]string) {
	for i := range o.list {
		if hook := o.list[i].Accepted; hook != nil {
			o.guard(func() {
				attrs = merge(attrs, hook(ctx, e))
			})
		}
	}
	return attrs
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

// request makes a call of the broker, which answers what it has received. The time limit of
// the call is the kernel's, whatever an observer makes of the context.
func (o *observers) request(ctx context.Context, r swarm.Request, call func(context.Context) ([]swarm.Envelope, error)) error {
	var ends []func(swarm.Answer)
	for i := range o.list {
		if hook := o.list[i].Request; hook != nil {
			o.guard(func() {
				next, end := hook(ctx, r)
				if next != nil {
					ctx = values{ctx, next}
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
		results := outcomesOf(len(r.Messages), answer.Err)
		for i := range r.Messages {
			if results.of(i).Err != nil {
				answer.Failed = append(answer.Failed, i)
			}
		}
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
	out.Category = e.category(bag)
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.inlets[out.Category] == nil {
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

	hook  sync.Mutex // held while Handed is called
	mu    sync.Mutex
	state traceState
	began time.Time
	ctx   values           // as observers made it; zero: no consumer has had it
	late  swarm.Settlement // how it has ended while Handed was called
}

type traceState uint8

const (
	waiting traceState = iota
	beginning
	begun
	ended
)

// begin tells observers, once, that a consumer has the message: when the lane notes it, or
// when the consumer asks the message for its context, whichever is first. The consumer
// waits for what they answer, the lane does not.
func (d *Delivery) begin(wait bool) {
	t := d.trace
	if wait {
		t.hook.Lock()
	} else if !t.hook.TryLock() {
		return
	}
	defer t.hook.Unlock()
	t.mu.Lock()
	if t.state != waiting {
		t.mu.Unlock()
		return
	}
	t.state, t.began = beginning, time.Now()
	t.mu.Unlock()

	ctx := values{d.batch.base, d.batch.engine.observers.handed(d.batch.base, t.envelope)}

	t.mu.Lock()
	t.ctx, t.state = ctx, begun
	late := t.late
	t.mu.Unlock()
	if late.Outcome != 0 {
		d.batch.engine.observers.settled(&t.ctx, t.envelope, late)
	}
}

// values are those of observers, once a consumer has the message.
func (t *trace) values() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != begun {
		return nil
	}
	return &t.ctx
}

// conclude tells observers how a delivery has ended, unless they are just being told that a
// consumer has it: then it is told behind that.
func (d *Delivery) conclude(outcome swarm.Outcome, err error) {
	t := d.trace
	t.mu.Lock()
	s := swarm.Settlement{Outcome: outcome, Err: err, At: time.Now()} // not before it began
	if t.state != waiting {
		s.Took = s.At.Sub(t.began)
	}
	var ctx context.Context = &t.ctx
	switch t.state {
	case waiting:
		t.state, ctx = ended, context.Background()
	case beginning:
		t.late = s
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	d.batch.engine.observers.settled(ctx, t.envelope, s)
}

// values is a context with the values of another one.
type values struct {
	context.Context
	of context.Context
}

// Value answers from the other one. Package context, by a key of type *int, asks a context for
// the one that it was derived from, to know who ends it and why: that is not the other one.
func (v values) Value(key any) any {
	if _, own := key.(*int); own {
		return v.Context.Value(key)
	}
	return v.of.Value(key)
}
