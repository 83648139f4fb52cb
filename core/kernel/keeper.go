package kernel

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// keeper watches the clock for all batches that are not complete: it extends their
// leases and expires what consumers keep too long. It has one timer, set for what is
// due first, and none while nothing is in flight.
type keeper struct {
	engine   *Engine
	extender driver.Extender // nil: leases cannot be extended

	mu      sync.Mutex
	batches *batch
	timer   *time.Timer
	closed  bool
	born    time.Time
	armed   atomic.Int64 // when the timer fires, nanoseconds since born; 0: it does not
}

// add watches a batch whose leases began now.
func (k *keeper) add(b *batch, now time.Time) {
	var first, last time.Time
	for i := range b.deliveries {
		l := b.deliveries[i].lease
		if !l.IsZero() && (first.IsZero() || l.Before(first)) {
			first = l
		}
		if l.After(last) {
			last = l
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if b.next = k.batches; b.next != nil {
		b.next.prev = b
	}
	k.batches = b
	if first.IsZero() {
		return
	}
	if k.extender != nil {
		// Half of the lease is left for attempts to extend it.
		b.every = max(last.Sub(now), time.Millisecond)
		b.extendAt = now.Add(b.every / 2)
		k.arm(b.extendAt)
	}
	k.arm(first)
}

func (k *keeper) remove(b *batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if b.prev != nil {
		b.prev.next = b.next
	} else if k.batches == b {
		k.batches = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	}
	b.prev, b.next = nil, nil
}

// expireAt makes sure that the timer fires at t or before.
func (k *keeper) expireAt(t time.Time) {
	if armed := k.armed.Load(); armed != 0 && armed <= k.since(t) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.arm(t)
}

// since does not overflow, however far t is.
func (k *keeper) since(t time.Time) int64 { return max(1, int64(t.Sub(k.born))) }

func (k *keeper) arm(t time.Time) {
	at := k.since(t)
	if armed := k.armed.Load(); k.closed || armed != 0 && armed <= at {
		return
	}
	k.armed.Store(at)
	if k.timer == nil {
		k.timer = time.AfterFunc(time.Until(t), k.sweep)
	} else {
		k.timer.Reset(time.Until(t))
	}
}

// errNobodyTakes is why messages go back that hold up other categories.
var errNobodyTakes = fmt.Errorf("no consumer takes messages of the category, and they hold up others: %w", swarm.ErrTimeToFlight)

// sweep does what is due, and sets the timer for what is due next.
func (k *keeper) sweep() {
	now := time.Now()
	var expired, lost, stuck []*Delivery
	var extend []*batch
	var next time.Time
	upcoming := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}

	k.armed.Store(0) // first: who arms it from here on is not overlooked
	for _, in := range k.engine.clogged() {
		if at := in.patience(); now.Before(at) {
			upcoming(at)
		} else {
			stuck = append(stuck, in.waiting()...)
		}
	}

	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return
	}
	for b := k.batches; b != nil; b = b.next {
		for i := range b.deliveries {
			d := &b.deliveries[i]
			d.mu.Lock()
			switch {
			case d.settled:
			case !d.due.IsZero() && !now.Before(d.due):
				expired = append(expired, d)
			case !d.lease.IsZero() && !now.Before(d.lease):
				lost = append(lost, d)
			default:
				upcoming(d.due)
				upcoming(d.lease)
			}
			d.mu.Unlock()
		}
		if k.extender == nil || b.extendAt.IsZero() {
			continue
		}
		if !now.Before(b.extendAt) {
			b.extendAt = now.Add(max(b.every/8, time.Millisecond)) // next attempt, should this one fail
			extend = append(extend, b)
		}
		upcoming(b.extendAt)
	}
	if !next.IsZero() {
		k.arm(next)
	}
	k.mu.Unlock()

	for _, d := range expired {
		d.fail(swarm.OutcomeExpired, "expire", swarm.ErrTimeToFlight)
	}
	for _, d := range lost {
		d.lost(nil)
	}
	for _, d := range stuck {
		if d.wasHanded() {
			continue // a moment ago
		}
		d.fail(swarm.OutcomeRejected, "hand over", errNobodyTakes)
	}
	for _, b := range extend {
		k.engine.helpers.add(1)
		go func() {
			defer k.engine.helpers.add(-1)
			k.extend(b)
		}()
	}
}

// extend asks the broker to prolong the leases of what is not settled in a batch.
func (k *keeper) extend(b *batch) {
	var live []*Delivery
	var bags []*driver.Bag
	for i := range b.deliveries {
		d := &b.deliveries[i]
		d.mu.Lock()
		if !d.settled && !d.extending && !d.lease.IsZero() {
			d.extending = true
			live = append(live, d)
			bags = append(bags, d.bag)
		}
		d.mu.Unlock()
	}
	if len(live) == 0 {
		return
	}
	asked := time.Now()
	var err error
	limit := max(k.engine.limits.Entries, 1)
	failures := make([]driver.Failure, len(live))
	for from := 0; from < len(bags); from += limit {
		part := bags[from:min(from+limit, len(bags))]
		c := newCall(k.engine.live, k.engine.cfg.NetworkTimeout)
		k.engine.extends.begin(len(part))
		err = k.engine.extend(c, k.extender, part, b.every)
		c.end()
		results := outcomesOf(len(part), err)
		k.engine.extends.end(len(part), results.failures(len(part)), err)
		for i := range part {
			failures[from+i] = results.of(i)
			if results.whole != nil { // it says nothing of leases
				failures[from+i].Permanent = false
			}
		}
	}

	failed := false
	for i, d := range live {
		d.mu.Lock()
		d.extending = false
		f := failures[i]
		if f.Err == nil {
			d.lease = asked.Add(b.every)
		}
		settled := d.settled
		d.mu.Unlock()
		switch {
		case settled:
			b.push(d, true)
			k.engine.deferred.add(-1)
		case f.Permanent:
			d.lost(f.Err)
		case f.Err != nil:
			failed = true
			k.engine.report.report(d.error("extend", f.Err))
		}
	}
	if !failed {
		k.mu.Lock()
		b.extendAt = asked.Add(b.every / 2)
		k.mu.Unlock()
	}
}

func (e *Engine) extend(c *call, x driver.Extender, bags []*driver.Bag, d time.Duration) error {
	var seen []swarm.Envelope
	if e.observers != nil {
		for _, bag := range bags {
			seen = append(seen, e.received(bag))
		}
	}
	return e.call(c, swarm.OpExtend, seen, func(ctx context.Context) error { return x.Extend(ctx, bags, d) })
}

// close ends the watch: nothing is extended or expires any more.
func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.timer != nil {
		k.timer.Stop()
	}
}

// open lists the deliveries that are not settled.
func (k *keeper) open() []*Delivery {
	k.mu.Lock()
	defer k.mu.Unlock()
	var open []*Delivery
	for b := k.batches; b != nil; b = b.next {
		for i := range b.deliveries {
			d := &b.deliveries[i]
			d.mu.Lock()
			if !d.settled {
				open = append(open, d)
			}
			d.mu.Unlock()
		}
	}
	return open
}
