package kernel

import (
	"errors"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
)

// Inlet is the engine's end of a listen lane: the messages of one category. Package
// listen has the other end, the goroutine that decodes, hands over and takes back.
// Only that goroutine may call its methods.
type Inlet struct {
	engine   *Engine
	category string
	goType   string
	wake     chan struct{} // capacity 1: there is something to do

	mu         sync.Mutex
	head, tail *Delivery // waiting, in order
	load       int       // waiting, or handed over and not settled
	handed     int       // handed over and not settled
	moved      time.Time // a message was handed over, or was the first to wait, last
	closed     bool
	listened   listened

	out      int  // handed over and not come back; of the lane
	answered bool // something came back; of the lane
}

// Config of the kernel.
func (in *Inlet) Config() swarm.Config { return in.engine.cfg }

// Wake tells that Next may have something, that the message the lane offers may have
// been settled meanwhile, or that the inlet is closing.
func (in *Inlet) Wake() <-chan struct{} { return in.wake }

// Closing is closed when nothing more is to be handed over: the lane calls
// [Inlet.Release] for what it holds, closes its channel, and calls [Inlet.Closed].
func (in *Inlet) Closing() <-chan struct{} { return in.engine.closing }

func (in *Inlet) alert() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// hold counts a delivery that is held back behind its group.
func (in *Inlet) hold(d *Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	d.inlet = in
	in.load++
	in.listened.received(d.bag)
}

// push queues a delivery that is not settled. It reports false when the inlet is
// closed.
func (in *Inlet) push(d *Delivery) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled {
		return true // its lease was lost on the way here
	}
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return false
	}
	if d.inlet == nil { // else it was counted while it was held back
		d.inlet = in
		in.load++
		in.listened.received(d.bag)
	}
	first := in.head == nil
	if first {
		in.head, in.moved = d, time.Now()
	} else {
		in.tail.next = d
	}
	in.tail = d
	in.mu.Unlock()
	if first {
		in.alert()
	}
	return true
}

// Next takes the message that is next to be handed over; nil when none waits, or
// the consumers have their share in hand.
func (in *Inlet) Next() *Delivery {
	for {
		in.mu.Lock()
		d := in.head
		if d == nil || in.handed >= in.engine.share {
			in.mu.Unlock()
			return nil
		}
		if in.head = d.next; in.head == nil {
			in.tail = nil
		}
		d.next = nil
		in.mu.Unlock()
		if !d.isSettled() {
			return d
		}
	}
}

// Gone reports that a message need not be handed over any more: its lease was lost
// while it waited.
func (in *Inlet) Gone(d *Delivery) bool { return d.isSettled() }

// Handed notes that a message was handed over.
func (in *Inlet) Handed(d *Delivery) {
	in.out++
	if d.trace != nil {
		d.begin(false)
	}
	now := time.Now()
	due := d.batch.due(now)
	if d.batch.acked {
		d.mu.Lock()
		if d.due.IsZero() {
			d.due = due
		}
		d.mu.Unlock()
		d.end(swarm.OutcomeAcked, 0, nil)
		return
	}
	d.mu.Lock()
	d.handed = true
	d.due = due
	live := !d.settled
	if live {
		in.engine.working.add(1)
		in.mu.Lock()
		in.handed++
		in.moved = now
		in.mu.Unlock()
	}
	d.mu.Unlock()
	if live {
		in.engine.keeper.expireAt(due)
	}
}

// settled takes note that a delivery is.
func (in *Inlet) settled(d *Delivery, handed bool, outcome swarm.Outcome) {
	in.mu.Lock()
	in.load--
	in.listened.ended(outcome)
	resume := false
	if !handed {
		in.unlink(d)
	} else {
		in.handed--
		resume = in.handed == in.engine.share-1 && in.head != nil
	}
	// A poller may wait for just this: a category with nothing in flight, or room.
	free := in.load == 0 || in.load+1+int(in.engine.gate.reserved.Load()) >= in.engine.most
	in.mu.Unlock()
	if resume || !handed {
		in.alert()
	}
	if free {
		in.engine.gate.alert()
	}
}

// unlink takes a delivery out of the queue, if it is there: one whose lease was lost
// while it waited. Queues are short, and leases are rarely lost.
func (in *Inlet) unlink(d *Delivery) {
	var before *Delivery
	for x := in.head; x != nil; before, x = x, x.next {
		if x != d {
			continue
		}
		if before == nil {
			in.head = x.next
		} else {
			before.next = x.next
		}
		if in.tail == x {
			in.tail = before
		}
		x.next = nil
		return
	}
}

// patience is when messages have waited for too long of which none was taken: TimeToFlight
// after the last one was.
func (in *Inlet) patience() time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.moved.Add(in.engine.cfg.TimeToFlight)
}

// waiting are the messages that wait.
func (in *Inlet) waiting() []*Delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.queued()
}

func (in *Inlet) queued() (all []*Delivery) {
	for d := in.head; d != nil; d = d.next {
		all = append(all, d)
	}
	return all
}

// Return settles the delivery that digest is the token of: acknowledged when err is
// nil, else failed. What cannot be settled is ignored and reported.
func (in *Inlet) Return(digest swarm.Digest, err error) {
	e := in.engine
	d := deliveryOf(swarm.Msg[struct{}]{Digest: digest}.Context())
	if d == nil || d.inlet != in {
		if !e.cfg.AtMostOnce {
			in.ignored(swarm.ErrForeign)
			e.report.report(&swarm.ListenError{Category: in.category, Op: "settle", Err: swarm.ErrForeign})
		}
		return
	}
	in.answered = true
	if !d.returned {
		d.returned = true
		in.out--
	}
	if d.batch.acked {
		return
	}
	if err != nil {
		err = sound(err)
	}
	ok := false
	if err == nil {
		ok = d.end(swarm.OutcomeAcked, 0, nil)
	} else if later, is := errors.AsType[*swarm.RetryAfterError](err); is {
		ok = d.end(swarm.OutcomeFailed, max(0, later.Delay), err)
	} else {
		ok = d.end(swarm.OutcomeFailed, max(0, e.cfg.Redelivery(d.bag.Attempt)), err)
	}
	if !ok {
		in.ignored(swarm.ErrSettled)
		e.report.report(d.error("settle", swarm.ErrSettled))
	}
}

// Deserted notes that the consumer has closed ack.
func (in *Inlet) Deserted() {
	if !in.engine.cfg.AtMostOnce {
		in.engine.report.report(&swarm.ListenError{Category: in.category, Op: "settle", Err: errDeserted})
	}
}

// Refuse nacks a message that the consumer of the channel could not settle.
func (in *Inlet) Refuse(d *Delivery) { d.fail(swarm.OutcomeRejected, "hand over", errDeserted) }

var errDeserted = errors.New("ack is closed: the channel gets no more messages, and those it has cannot be settled")

// ignored notes a settlement that settles nothing.
func (in *Inlet) ignored(err error) {
	in.mu.Lock()
	in.listened.c.Ignored++
	in.mu.Unlock()
	if o := in.engine.observers; o != nil {
		o.ignored(in.category, err)
	}
}

// Reject nacks a message that cannot be decoded.
func (in *Inlet) Reject(d *Delivery, err error) {
	d.fail(swarm.OutcomeRejected, "decode", err)
}

// Release gives back a message that was not handed over, or that the lane took out of
// its channel again. One that was acknowledged already, at most once, is lost and
// reported.
func (in *Inlet) Release(d *Delivery) {
	if d.batch.acked {
		in.engine.lose(d)
		return
	}
	d.release(nil)
}

// Reclaim is Release by the token of a message the lane took out of its channel.
func (in *Inlet) Reclaim(digest swarm.Digest) {
	if d := deliveryOf(swarm.Msg[struct{}]{Digest: digest}.Context()); d != nil {
		d.returned = true
		in.out--
		in.Release(d)
	}
}

// Rest takes what still waits, once the inlet is closing: from then on nothing is
// queued.
func (in *Inlet) Rest() []*Delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	rest := in.queued()
	in.closed, in.head, in.tail = true, nil, nil
	return rest
}

// Closed notes that the lane has closed its channel.
func (in *Inlet) Closed() { in.engine.inletsOpen.add(-1) }

// Out is how many messages were handed over and have not come back, and whether any has. A
// closed lane stays for them. At most once nobody has to send messages back: there, unless
// some message has, a lane may leave when those that still come have room in its ack channel,
// and in any case when none has come for TimeToFlight.
func (in *Inlet) Out() (n int, answered bool) { return in.out, in.answered }
