package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// Delivery is one message on its way to a consumer and back. It is the context of
// the message: it ends when the delivery is settled or its lease is lost.
//
// A delivery is waiting, then perhaps handed over, then settled. Every outcome
// passes settle, and the first one counts.
type Delivery struct {
	bag   *driver.Bag
	batch *batch
	inlet *Inlet    // nil if nobody listens to its category
	next  *Delivery // behind it in the queue of the inlet
	rest  *Delivery // behind it in its group: held back until this one is acknowledged
	entry entry     // its settlement
	trace *trace    // nil: nobody observes

	mu        sync.Mutex
	handed    bool
	returned  bool // came back on ack
	settled   bool
	extending bool // an extension of its lease is in flight
	mute      bool // the broker is not told: it has given the message to somebody else
	lease     time.Time
	due       time.Time // end of TimeToFlight, once handed over
	ctx       context.Context
	cancel    context.CancelCauseFunc
}

var errSettled = errors.New("swarm: message is settled")

// Bag is the message as it was received.
func (d *Delivery) Bag() *driver.Bag { return d.bag }

// Deadline is the end of TimeToFlight.
func (d *Delivery) Deadline() (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due.IsZero() {
		// A consumer that asks has the message: it is being handed over right now.
		return d.batch.due(time.Now()), true
	}
	return d.due, true
}

// Done is closed when the delivery ends.
func (d *Delivery) Done() <-chan struct{} { return d.context().Done() }

// Err is nil until the delivery ends. Its cause is in [context.Cause].
func (d *Delivery) Err() error {
	if d.batch.acked {
		return d.context().Err()
	}
	if d.isSettled() {
		return context.Canceled
	}
	return d.batch.base.Err()
}

// Value answers from the context of the batch.
func (d *Delivery) Value(key any) any {
	if key == (deliveryKey{}) {
		return d
	}
	return d.context().Value(key)
}

type deliveryKey struct{}

// deliveryOf finds the delivery in a context that is one or was derived from one.
func deliveryOf(ctx context.Context) *Delivery {
	if d, ok := ctx.(*Delivery); ok {
		return d
	}
	d, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return d
}

// context is made when somebody first asks: most consumers never do.
func (d *Delivery) context() context.Context {
	base := d.batch.base
	if d.trace != nil {
		d.begin(true)
		if ctx := d.trace.values(); ctx != nil {
			base = ctx
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.ctx != nil:
	case d.batch.acked:
		// At most once it has no lease that could end: the consumer has TimeToFlight.
		ctx, cancel := context.WithCancelCause(base)
		if d.due.IsZero() {
			d.due = d.batch.due(time.Now())
		}
		time.AfterFunc(time.Until(d.due), func() { cancel(swarm.ErrTimeToFlight) })
		d.ctx = ctx
	case d.settled:
		// Its own cause, whatever has become of the batch since.
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(base))
		if cause := d.entry.verdict.Err; cause != nil {
			cancel(cause)
		} else {
			cancel(errSettled)
		}
		d.ctx = ctx
	default:
		d.ctx, d.cancel = context.WithCancelCause(base)
	}
	return d.ctx
}

// verdictOf is what the broker is told of an outcome.
func verdictOf(outcome swarm.Outcome) driver.Outcome {
	switch outcome {
	case swarm.OutcomeAcked, swarm.OutcomeLost:
		return driver.Ack
	case swarm.OutcomeReleased:
		return driver.Release
	}
	return driver.Nack
}

// release gives back a message that was not handed over, or is not answered.
func (d *Delivery) release(err error) bool { return d.end(swarm.OutcomeReleased, 0, err) }

// end ends the delivery. It reports false when it has ended before.
func (d *Delivery) end(outcome swarm.Outcome, delay time.Duration, err error) bool {
	d.mu.Lock()
	if d.settled {
		d.mu.Unlock()
		return false
	}
	d.settled, d.mute = true, outcome == swarm.OutcomeLeaseLost
	d.entry.verdict = driver.Settlement{Bag: d.bag, Outcome: verdictOf(outcome), Delay: delay, Err: err}
	cancel, handed, extending := d.cancel, d.handed, d.extending
	if extending {
		d.batch.engine.deferred.add(1)
	}
	d.mu.Unlock()

	if cancel != nil {
		if err == nil {
			cancel(errSettled)
		} else {
			cancel(err)
		}
	}
	if d.inlet != nil {
		d.inlet.settled(d, handed, outcome)
	} else {
		d.batch.engine.stray(d.bag, outcome)
	}
	if d.trace != nil {
		d.conclude(outcome, err)
	}
	d.batch.settled(d, extending)
	if handed {
		d.batch.engine.working.add(-1)
	}
	return true
}

// sound is an error that drivers and observers can look at. One of the user's that is nil inside
// may panic then.
func sound(err error) (out error) {
	defer func() {
		if recover() != nil {
			out = fmt.Errorf("swarm: an error of type %T that cannot be read", err)
		}
	}()
	_ = errors.Is(err, errSettled) // looks at all that it wraps
	_ = err.Error()
	return err
}

func (d *Delivery) wasHanded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handed
}

func (d *Delivery) isSettled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settled
}

// lost ends a delivery whose message the broker has given to somebody else.
func (d *Delivery) lost(why error) bool {
	err := swarm.ErrLeaseLost
	if why != nil && !errors.Is(why, err) {
		err = fmt.Errorf("%w: %w", err, why)
	}
	return d.fail(swarm.OutcomeLeaseLost, "extend", err)
}

// fail nacks the delivery by the kernel's own decision, and reports why. Such a
// message never comes back at once: it would cost requests in a loop.
func (d *Delivery) fail(outcome swarm.Outcome, op string, err error) bool {
	e := d.batch.engine
	err = sound(err)
	if !d.end(outcome, e.later(d.bag.Attempt), err) {
		return false
	}
	e.report.report(d.error(op, err))
	return true
}

func (d *Delivery) error(op string, err error) error {
	return listenError(d.bag, op, err)
}

func listenError(bag *driver.Bag, op string, err error) error {
	return &swarm.ListenError{Category: bag.Category, ID: bag.ID, Attempt: bag.Attempt, Op: op, Err: err}
}

// batch is the answer of one receive, or one invocation: its own state and token.
// It is complete when each of its deliveries is settled.
type batch struct {
	engine     *Engine
	base       context.Context // parent of the contexts of its deliveries
	deliveries []Delivery
	one        [1]Delivery // saves an allocation for the batch of one
	pending    atomic.Int32
	held       []bool      // which deliveries wait behind their group; nil: none
	acked      bool        // at most once: the broker need not be told
	poller     *poller     // waits for it, or
	call       *invocation // answers for it

	// Of the keeper.
	prev, next *batch
	every      time.Duration // extend the leases by this
	extendAt   time.Time     // zero: nothing to extend
}

func (e *Engine) newBatch(base context.Context, bags []driver.Bag, acked bool) *batch {
	b := &batch{engine: e, base: base, acked: acked}
	if len(bags) == 1 {
		b.deliveries = b.one[:]
	} else {
		b.deliveries = make([]Delivery, len(bags))
	}
	b.pending.Store(int32(len(bags)))
	for i := range bags {
		d := &b.deliveries[i]
		d.bag, d.batch = &bags[i], b
		d.bag.Category = e.category(d.bag)
		if !acked {
			d.lease = d.bag.Lease
		}
		d.entry.bag, d.entry.done = d.bag, e.noted
	}
	if e.observers != nil {
		traces := make([]trace, len(bags))
		for i := range bags {
			traces[i].envelope = e.received(&bags[i])
			b.deliveries[i].trace = &traces[i]
			e.observers.received(traces[i].envelope)
		}
	}
	b.chain()
	return b
}

// take watches a batch, and sends it on its way.
func (e *Engine) take(b *batch) {
	e.keeper.add(b, time.Now())
	b.route()
}

// route sends the deliveries on their way: to the inlets of their categories. Only the first
// of each group goes, the others follow one by one.
func (b *batch) route() {
	for i := range b.deliveries {
		if b.held == nil || !b.held[i] {
			b.engine.route(&b.deliveries[i])
		}
	}
}

// chain links the deliveries of a group, and holds back all but the first. It is done
// before anybody else knows of the batch.
func (b *batch) chain() {
	if len(b.deliveries) < 2 {
		return
	}
	var last map[string]*Delivery
	for i := range b.deliveries {
		d := &b.deliveries[i]
		if d.bag.Group == "" {
			continue
		}
		if last == nil {
			last, b.held = map[string]*Delivery{}, make([]bool, len(b.deliveries))
		}
		if before := last[d.bag.Group]; before != nil {
			before.rest = d
			b.held[i] = true
			if in := b.engine.lookup(d.bag.Category); in != nil {
				in.hold(d)
			}
		}
		last[d.bag.Group] = d
	}
}

// settled takes note of the outcome of a delivery.
func (b *batch) settled(d *Delivery, extending bool) {
	// The group first: it is part of the batch, which must not be complete before.
	if d.rest != nil {
		if d.entry.verdict.Outcome == driver.Ack || b.acked {
			b.engine.route(d.rest)
		} else {
			d.rest.release(behind(d.entry.verdict))
		}
	}
	if b.call != nil && d.entry.verdict.Outcome == driver.Nack {
		b.call.nacked()
	}
	last := b.pending.Add(-1) == 0
	if !extending {
		// An extension in flight would undo the settlement: it is pushed when the
		// extension has returned.
		b.push(d, last)
	}
	if !last {
		return
	}
	b.engine.keeper.remove(b)
	if b.call != nil {
		close(b.call.served)
	} else {
		b.poller.completed()
	}
}

// behind is why a message goes back that waits behind another one of its group. The reason of
// one that went back itself is handed on as it is: in a group of thousands it would grow with
// each.
func behind(before driver.Settlement) error {
	if before.Outcome == driver.Release {
		return before.Err
	}
	return fmt.Errorf("behind a failed message of its group: %w", before.Err)
}

// due is when a message that is handed over now has to be settled; at most once, when the
// context of its consumer ends, who goes on after the answer of an invocation.
func (b *batch) due(now time.Time) time.Time {
	if b.call != nil && !b.acked && !b.call.settle.IsZero() {
		return b.call.settle
	}
	return now.Add(b.engine.cfg.TimeToFlight)
}

// push tells the broker, unless it is told by the answer of an invocation, was told
// before the hand-over, or has given the message to somebody else.
func (b *batch) push(d *Delivery, last bool) {
	if b.call != nil || b.acked || d.mute {
		return
	}
	b.engine.settler.push(last || d.entry.verdict.Outcome != driver.Ack, false, &d.entry)
}
