package kernel

import (
	"maps"
	"slices"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// emitted is the ledger of what is emitted in one category. Each method moves values from
// one count to another, so that they add up whenever somebody looks. Open is how many values
// of the caller have no end yet.
type emitted struct {
	mu sync.Mutex
	c  swarm.EmitStats
}

func (b *emitted) accepted(open *int64) {
	b.mu.Lock()
	*open++
	b.c.Accepted++
	b.c.InFlight++
	b.mu.Unlock()
}

func (b *emitted) confirmed(open *int64) {
	b.mu.Lock()
	*open--
	b.c.InFlight--
	b.c.Confirmed++
	b.mu.Unlock()
}

// returned: a synchronous caller got an error.
func (b *emitted) returned(open *int64) {
	b.mu.Lock()
	*open--
	b.c.InFlight--
	b.c.Failed++
	b.mu.Unlock()
}

// failed: a value is on its way to dlq.
func (b *emitted) failed() {
	b.mu.Lock()
	b.c.InFlight--
	b.c.DeadLetters++
	b.mu.Unlock()
}

// left: a value was accepted into a buffer, and the end came first.
func (b *emitted) left(open *int64) {
	b.mu.Lock()
	*open++
	b.c.Accepted++
	b.c.DeadLetters++
	b.mu.Unlock()
}

func (b *emitted) deadLettered(open *int64) {
	b.mu.Lock()
	*open--
	b.c.DeadLetters--
	b.c.Failed++
	b.mu.Unlock()
}

func (b *emitted) dropped(open *int64, n int) {
	b.mu.Lock()
	*open -= int64(n)
	b.c.DeadLetters -= int64(n)
	b.c.Dropped += int64(n)
	b.mu.Unlock()
}

func (b *emitted) undelivered(open *int64, n int) {
	b.mu.Lock()
	*open -= int64(n)
	b.c.DeadLetters -= int64(n)
	b.c.Undelivered += int64(n)
	b.mu.Unlock()
}

func (b *emitted) retried() {
	b.mu.Lock()
	b.c.Retried++
	b.mu.Unlock()
}

func (b *emitted) refused() {
	b.mu.Lock()
	b.c.Refused++
	b.mu.Unlock()
}

// emittedOf is the ledger of a category.
func (e *Engine) emittedOf(category string) *emitted {
	e.mu.RLock()
	b := e.emitted[category]
	e.mu.RUnlock()
	if b != nil {
		return b
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if b = e.emitted[category]; b == nil {
		b = &emitted{}
		e.emitted[category] = b
	}
	return b
}

// listened is the ledger of what is received: the owner has the lock.
type listened struct{ c swarm.ListenStats }

func (b *listened) received(bag *driver.Bag) {
	b.c.Received++
	if bag.Attempt > 1 {
		b.c.Redelivered++
	}
}

func (b *listened) ended(outcome swarm.Outcome) {
	switch outcome {
	case swarm.OutcomeAcked:
		b.c.Acked++
	case swarm.OutcomeFailed:
		b.c.Failed++
	case swarm.OutcomeRejected:
		b.c.Rejected++
	case swarm.OutcomeExpired:
		b.c.Expired++
	case swarm.OutcomeReleased:
		b.c.Released++
	case swarm.OutcomeLeaseLost:
		b.c.LeaseLost++
	case swarm.OutcomeLost:
		b.c.Lost++
	}
}

// stray notes a message that has ended without having been queued for a consumer.
func (e *Engine) stray(bag *driver.Bag, outcome swarm.Outcome) {
	mu, book := &e.straysMu, &e.strays
	if in := e.lookup(bag.Category); in != nil {
		mu, book = &in.mu, &in.listened
	}
	mu.Lock()
	defer mu.Unlock()
	book.received(bag)
	book.ended(outcome)
}

// calls is the ledger of an operation.
type calls struct {
	mu sync.Mutex
	c  swarm.RequestStats
}

func (b *calls) begin(entries int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	callBegun(&b.c, entries)
}

func (b *calls) end(entries, failed int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	callEnded(&b.c, entries, failed, err)
}

// brought ends a call that has brought n messages, which nobody knew when it began.
func (b *calls) brought(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c.Entries += int64(n)
	b.c.Succeeded += int64(n)
	callEnded(&b.c, 0, 0, err)
}

func callBegun(c *swarm.RequestStats, entries int) {
	c.Calls++
	c.Open++
	c.Entries += int64(entries)
	c.InFlight += int64(entries)
}

func callEnded(c *swarm.RequestStats, entries, failed int, err error) {
	c.Open--
	c.InFlight -= int64(entries)
	c.Failed += int64(failed)
	c.Succeeded += int64(entries - failed)
	if err != nil {
		c.Errors++
	}
}

// Stats is the ledger of the kernel, also after its end. It takes the locks of the kernel
// one after the other, each for a moment.
func (e *Engine) Stats() swarm.Stats {
	s := swarm.Stats{
		Emit:        map[string]swarm.EmitStats{},
		Listen:      map[string]swarm.ListenStats{},
		Requests:    map[swarm.Operation]swarm.RequestStats{},
		Settling:    int64(e.settler.pending.count()),
		Unconfirmed: e.refusals.Load(),
	}
	if deferred := int64(e.deferred.count()); isClosed(e.severed) {
		s.Unconfirmed += deferred // nobody will tell the broker
	} else {
		s.Settling += deferred
	}
	now := time.Now()
	e.mu.RLock()
	emitted, inlets := maps.Clone(e.emitted), slices.Collect(e.bound)
	e.mu.RUnlock()

	if e.emits {
		oldest := e.sender.oldest()
		for category, b := range emitted {
			b.mu.Lock()
			c := b.c
			b.mu.Unlock()
			c.Oldest = since(now, oldest[category])
			s.Emit[category] = c
		}
		s.Requests[swarm.OpSend] = e.sender.stats()
	}
	if e.source == nil {
		return s
	}
	oldest, longest := e.keeper.ages()
	for _, in := range inlets {
		in.mu.Lock()
		c := in.listened.c
		c.Waiting, c.Working = int64(in.load-in.handed), int64(in.handed)
		in.mu.Unlock()
		c.Oldest, c.Longest = since(now, oldest[in]), since(now, longest[in])
		s.Listen[in.category] = c
	}
	e.straysMu.Lock()
	strays := e.strays.c
	e.straysMu.Unlock()
	if all := s.Listen[""]; strays.Received > 0 {
		s.Listen[""] = plusListen(all, strays)
	}
	if e.receiver != nil {
		s.Requests[swarm.OpReceive] = e.receives.stats()
		s.Requests[swarm.OpSettle] = e.settler.stats()
		if e.keeper.extender != nil {
			s.Requests[swarm.OpExtend] = e.extends.stats()
		}
	}
	return s
}

func (b *calls) stats() swarm.RequestStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

func plusListen(a, b swarm.ListenStats) swarm.ListenStats {
	a.Received += b.Received
	a.Acked += b.Acked
	a.Failed += b.Failed
	a.Rejected += b.Rejected
	a.Expired += b.Expired
	a.Released += b.Released
	a.LeaseLost += b.LeaseLost
	a.Lost += b.Lost
	a.Redelivered += b.Redelivered
	return a
}

func since(now, then time.Time) time.Duration {
	if then.IsZero() {
		return 0
	}
	return max(0, now.Sub(then))
}

// older keeps the earlier of two times in a map.
func older[K comparable](m map[K]time.Time, key K, at time.Time) {
	if before, ok := m[key]; !at.IsZero() && (!ok || at.Before(before)) {
		m[key] = at
	}
}

// oldest is when the oldest entry that is not done was accepted, by category.
func (r *requests) oldest() map[string]time.Time {
	out := map[string]time.Time{}
	look := func(entries []*entry) {
		for _, x := range entries {
			if !x.orphan {
				older(out, x.bag.Category, x.bag.SentAt)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	look(r.queue)
	for x := range r.backing {
		look(x.entries)
	}
	for _, g := range r.groups {
		look(g.wait)
	}
	for _, w := range r.workers {
		look(w.batch)
	}
	return out
}

func (r *requests) stats() swarm.RequestStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// ages are when the broker took the oldest message of an inlet that is not settled, and
// since when a consumer has had one.
func (k *keeper) ages() (oldest, longest map[*Inlet]time.Time) {
	oldest, longest = map[*Inlet]time.Time{}, map[*Inlet]time.Time{}
	for _, d := range k.open() {
		d.mu.Lock()
		in, handed, due := d.inlet, d.handed, d.due
		d.mu.Unlock()
		if in == nil {
			continue
		}
		older(oldest, in, d.bag.SentAt)
		if handed {
			older(longest, in, d.batch.began(due))
		}
	}
	return oldest, longest
}

// began is when a message was handed over that has to be settled by due. A batch that was
// pushed came all at once.
func (b *batch) began(due time.Time) time.Time {
	if b.call != nil && !b.call.settle.IsZero() {
		return b.call.began
	}
	return due.Add(-b.engine.cfg.TimeToFlight)
}
