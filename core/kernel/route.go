package kernel

import (
	"errors"
	"fmt"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// bind makes the inlet of a category; "" is the catch-all.
func (e *Engine) bind(category, goType string, catchAll bool) *Inlet {
	in := &Inlet{engine: e, category: category, goType: goType, wake: make(chan struct{}, 1)}
	if e.source == nil {
		panic("swarm: listen on a kernel that only emits")
	}
	defer e.gate.alert() // after the lock below, which the gate takes inside its own
	e.mu.Lock()
	defer e.mu.Unlock()
	if catchAll {
		if e.unknown != nil {
			panic("swarm: the catch-all is bound twice")
		}
		e.unknown = in
	} else {
		if category == "" {
			panic(fmt.Sprintf("swarm: category of %s is empty", goType))
		}
		if other := e.inlets[category]; other != nil {
			panic(fmt.Sprintf("swarm: category %q is bound twice, to %s and to %s: give one an explicit category", category, other.goType, goType))
		}
		e.inlets[category] = in
	}
	e.inletsOpen.add(1)
	return in
}

// bound yields all inlets, the catch-all too. Callers hold mu.
func (e *Engine) bound(yield func(*Inlet) bool) {
	for _, in := range e.inlets {
		if !yield(in) {
			return
		}
	}
	if e.unknown != nil {
		yield(e.unknown)
	}
}

// category of a received message.
func (e *Engine) category(bag *driver.Bag) string {
	if bag.Category == "" {
		return e.cfg.DefaultCategory
	}
	return bag.Category
}

// lookup finds the inlet of a category, or the catch-all, or nil.
func (e *Engine) lookup(category string) *Inlet {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if in := e.inlets[category]; in != nil {
		return in
	}
	return e.unknown
}

// route sends a delivery to the inlet of its category.
func (e *Engine) route(d *Delivery) {
	in := d.inlet // it has counted what is held back behind its group
	if in == nil {
		in = e.lookup(d.bag.Category)
	}
	switch {
	case d.bag.Err != nil && errors.Is(d.bag.Err, driver.ErrSkip):
		d.end(swarm.OutcomeAcked, 0, nil)
	case d.bag.Err != nil:
		d.fail(swarm.OutcomeRejected, "decode", d.bag.Err)
	case in != nil && e.cfg.AtMostOnce && !d.batch.acked && d.batch.call == nil:
		// Bound since it was received. Next time it is acknowledged first.
		d.release(nil)
	case in != nil && in.push(d):
	case in != nil && d.batch.acked:
		e.lose(d)
	case in != nil:
		d.release(nil)
	case d.bag.Optional:
		d.end(swarm.OutcomeAcked, 0, nil)
	case e.cfg.Unknown == swarm.UnknownAck:
		if d.end(swarm.OutcomeAcked, 0, nil) {
			e.report.report(d.error("route", swarm.ErrUnknownCategory))
		}
	default:
		d.fail(swarm.OutcomeRejected, "route", swarm.ErrUnknownCategory)
	}
}

// later is the delay after a nack by the kernel itself: a second at least, and as if
// two more deliveries had failed.
func (e *Engine) later(attempt int) time.Duration {
	return max(time.Second, e.cfg.Redelivery(max(attempt, 1)+2))
}

// lose gives up a message that was acknowledged and cannot be handed over.
func (e *Engine) lose(d *Delivery) {
	if !d.end(swarm.OutcomeLost, 0, nil) {
		return
	}
	e.lost.Add(1)
	e.report.report(d.error("hand over", swarm.ErrClosed))
}
