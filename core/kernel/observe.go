package kernel

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// observers are told what the kernel does. A kernel without any has a nil one: who has
// something to tell looks first, and prepares nothing.
//
// Hooks that change something are called where it happens. What the others are to be told
// goes through a queue of the observer: nothing waits for it but the end of the kernel, and
// that of an invocation, for a while, and no observer waits for another one.
type observers []*observer

// observer is one, with what it is to be told. A goroutine tells as long as there is
// something to tell.
type observer struct {
	swarm.Observer
	report *reporter
	panics sync.Once // the first is reported
	losses sync.Once // as well
	told   atomic.Int64

	mu      sync.Mutex
	queue   []event
	telling bool
	ended   bool // Closed is in the queue: nothing is told behind it
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
	told       chan struct{} // of a mark: closed when all before it was told
}

func newObservers(list []swarm.Observer, report *reporter) observers {
	var out observers
	for _, o := range list {
		out = append(out, &observer{Observer: o, report: report})
	}
	return out
}

// guard calls code of an observer.
func (o *observer) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			o.panics.Do(func() { o.report.report(fmt.Errorf("swarm: observer panicked: %v", p)) })
		}
	}()
	f()
}

// tell queues an event.
func (o *observer) tell(e event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.ended:
	case len(o.queue) >= observerQueue:
		o.losses.Do(func() {
			go o.report.report(fmt.Errorf("swarm: an observer is too slow: %d events wait for it, more are not told", observerQueue))
		})
	default:
		o.push(e)
	}
}

// push queues an event whatever waits. Callers hold mu.
func (o *observer) push(e event) {
	o.queue = append(o.queue, e)
	if !o.telling {
		o.telling = true
		go o.work()
	}
}

func (o *observer) work() {
	var events []event
	at := 0
	defer func() {
		if at < len(events) { // a hook has ended the goroutine, as t.FailNow does
			o.mu.Lock()
			defer o.mu.Unlock()
			o.queue = append(slices.Clone(events[at+1:]), o.queue...)
			go o.work()
		}
	}()
	for {
		clear(events)
		o.mu.Lock()
		events, o.queue = o.queue, events[:0]
		o.telling = len(events) > 0
		o.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for at = range events {
			e := &events[at]
			if e.told != nil {
				close(e.told)
				continue
			}
			o.guard(func() { e.hook(&o.Observer, e) })
			o.told.Add(1)
		}
		at = len(events)
	}
}

// mark returns what is closed when all that is in the queue was told; nil when it is empty.
func (o *observer) mark() chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.telling {
		return nil
	}
	told := make(chan struct{})
	o.push(event{told: told})
	return told
}

// wait returns when all that has happened was told, or ctx has ended.
func (all observers) wait(ctx context.Context) error {
	var marks []chan struct{}
	for _, o := range all {
		if mark := o.mark(); mark != nil {
			marks = append(marks, mark)
		}
	}
	for _, mark := range marks {
		select {
		case <-mark:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// observed is how long an invocation, or the end of the kernel, waits for an observer that is
// told nothing: what is left is told later, if there is a later.
const observed = 2 * time.Second

// finish is wait as long as they get on.
func (all observers) finish(ctx context.Context) error {
	for before := all.count(); ; {
		some, cancel := context.WithTimeout(ctx, observed)
		err := all.wait(some)
		cancel()
		now := all.count()
		if err == nil || ctx.Err() != nil || now == before {
			return err
		}
		before = now
	}
}

func (all observers) count() (told int64) {
	for _, o := range all {
		told += o.told.Load()
	}
	return told
}

func (all observers) retried(e swarm.Envelope, err error) {
	for _, o := range all {
		if o.Retried != nil {
			o.tell(event{envelope: e, err: err, hook: func(o *swarm.Observer, e *event) { o.Retried(e.envelope, e.err) }})
		}
	}
}

func (all observers) concluded(e swarm.Envelope, err error) {
	for _, o := range all {
		if o.Ended != nil {
			o.tell(event{envelope: e, err: err, hook: func(o *swarm.Observer, e *event) { o.Ended(e.envelope, e.err) }})
		}
	}
}

func (all observers) received(e swarm.Envelope) {
	for _, o := range all {
		if o.Received != nil {
			o.tell(event{envelope: e, hook: func(o *swarm.Observer, e *event) { o.Received(e.envelope) }})
		}
	}
}

func (all observers) settled(ctx context.Context, e swarm.Envelope, s swarm.Settlement) {
	for _, o := range all {
		if o.Settled != nil {
			o.tell(event{ctx: ctx, envelope: e, settlement: s, hook: func(o *swarm.Observer, e *event) {
				o.Settled(e.ctx, e.envelope, e.settlement)
			}})
		}
	}
}

func (all observers) ignored(category string, err error) {
	for _, o := range all {
		if o.Ignored != nil {
			o.tell(event{envelope: swarm.Envelope{Category: category}, err: err, hook: func(o *swarm.Observer, e *event) {
				o.Ignored(e.envelope.Category, e.err)
			}})
		}
	}
}

// closed is the last event.
func (all observers) closed(err error) {
	for _, o := range all {
		o.mu.Lock()
		if o.ended = true; o.Closed != nil {
			o.push(event{err: err, hook: func(o *swarm.Observer, e *event) { o.Closed(e.err) }})
		}
		o.mu.Unlock()
	}
}

// accepted returns the attributes that are to travel.
func (all observers) accepted(ctx context.Context, e swarm.Envelope) (attrs map[string]string) {
	for _, o := range all {
		if o.Accepted != nil {
			o.guard(func() { attrs = merge(attrs, o.Accepted(ctx, e)) })
		}
	}
	return attrs
}

func (all observers) handed(ctx context.Context, e swarm.Envelope) context.Context {
	for _, o := range all {
		if o.Handed != nil {
			o.guard(func() {
				if next := o.Handed(ctx, e); next != nil {
					ctx = next
				}
			})
		}
	}
	return ctx
}

// request makes a call of the broker, f, which answers what it has received. The time limit of
// the call is the kernel's, whatever an observer makes of the context, and begins when all of
// them have been told: it is the broker's.
func (all observers) request(c *call, r swarm.Request, f func(context.Context) ([]swarm.Envelope, error)) error {
	var ends []func(swarm.Answer)
	ctx := c.parent
	for _, o := range all {
		if o.Request != nil {
			o.guard(func() {
				next, end := o.Request(ctx, r)
				if next != nil {
					ctx = values{ctx, next}
				}
				if end != nil {
					ends = append(ends, func(a swarm.Answer) { o.guard(func() { end(a) }) })
				}
			})
		}
	}
	answer := swarm.Answer{}
	switch {
	case c.parent.Err() == nil:
		answer.Err = c.do(func(limited context.Context) (err error) {
			answer.Received, err = f(values{limited, ctx})
			return err
		})
	case r.Operation != swarm.OpReceive: // the kernel has ended meanwhile, and asks for nothing
		answer.Err = context.Cause(c.parent)
	}
	if answer.Err != nil {
		results := outcomesOf(len(r.Messages), answer.Err)
		for i := range r.Messages {
			if results.of(i).Err != nil {
				answer.Failed = append(answer.Failed, i)
			}
		}
	}
	for _, end := range slices.Backward(ends) {
		end(answer)
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
