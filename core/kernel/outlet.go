package kernel

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/internal/barrier"
)

// Outlet is the engine's end of an emit lane. Package emit has the other end, the
// goroutine that takes values off a channel and encodes them. Only that goroutine may
// call its methods.
type Outlet struct {
	engine   *Engine
	category string
	book     *emitted
	open     int64       // accepted and without an end; guarded by book.mu
	replies  chan *Entry // capacity window: an answer never waits for the lane
	ids      idBlock
	entries  []*entry

	filled   atomic.Int64  // when the last value was accepted, in invocations
	marked   chan struct{} // capacity 1: there are marks
	mu       sync.Mutex
	marks    []*Mark
	buffered func() int // values that the channel holds, when the lane cannot tell
}

// Mark is the question of an invocation to a lane: see [Outlet.Marks].
type Mark = barrier.Mark

// Now is the time of the process in invocations, see [Outlet.Spoil].
func (o *Outlet) Now() int64 { return o.engine.cfg.Barrier.Now() }

// Spoil fails the invocations that were open when a value was accepted: it is not
// delivered.
func (o *Outlet) Spoil(accepted int64, err error) {
	if !o.engine.cfg.AtMostOnce {
		o.engine.cfg.Barrier.Fail(accepted, err)
	}
}

// Mark is for the barrier.
func (o *Outlet) Mark(m *Mark) {
	o.mu.Lock()
	o.marks = append(o.marks, m)
	o.mu.Unlock()
	select {
	case o.marked <- struct{}{}:
	default:
	}
}

// Quiet is for the barrier.
func (o *Outlet) Quiet(began int64) bool { return o.filled.Load() < began && o.buffered() == 0 }

// Marked tells that Marks has something.
func (o *Outlet) Marked() <-chan struct{} { return o.marked }

// Marks takes the questions of invocations that are about to end: when is what the lane
// has accepted so far, its buffer included, confirmed or failed, and when was each dead
// letter of it taken? The lane answers by the methods of the mark. One that has expired
// comes again: the lane then gives up its dead letters, and answers.
func (o *Outlet) Marks() []*Mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	marks := o.marks
	o.marks = nil
	return marks
}

// Entry carries one value of a lane. The lane owns it, except between Send and the
// reply.
type Entry struct {
	Bag  driver.Bag
	Slot int // for the lane: where the value is

	entry entry
}

// Err is why the value failed; nil when the broker has accepted it.
func (e *Entry) Err() error { return e.entry.err }

// Config of the kernel.
func (o *Outlet) Config() swarm.Config { return o.engine.cfg }

// Batch is how many values fill a request.
func (o *Outlet) Batch() int { return o.engine.limits.Entries }

// NewEntry makes the entry of a slot.
func (o *Outlet) NewEntry(slot int) *Entry {
	e := &Entry{Slot: slot}
	e.entry.bag, e.entry.book = &e.Bag, o.book
	e.entry.done = func(*entry) { o.replies <- e }
	return e
}

// Fill readies an entry for the next value, which is accepted now: a bag with a fresh id.
func (o *Outlet) Fill(e *Entry) {
	e.Bag = driver.Bag{Category: o.category, Source: o.engine.cfg.Source, ID: o.ids.next(o.engine)}
	e.entry.attempts, e.entry.err, e.entry.carried = 0, nil, false
	o.filled.Store(o.Now())
	o.book.accepted(&o.open)
}

// Carries reports whether [Outlet.Carry] has anything to do, for values that may have a
// context.
func (o *Outlet) Carries(context bool) bool {
	return o.engine.observers != nil || context && o.engine.limits.Carry != nil
}

// Carry tells observers of a value that was accepted, whether it could be encoded or not,
// and adds attributes to its bag.
func (o *Outlet) Carry(ctx context.Context, e *Entry) {
	e.Bag.SentAt = time.Now()
	o.engine.carry(ctx, &e.entry)
}

// Send hands entries over to be sent, in this order. Each of them comes back on
// Replies once. At most as many as the window may be on their way.
func (o *Outlet) Send(entries ...*Entry) {
	o.entries = o.entries[:0]
	now := time.Now()
	for _, e := range entries {
		if e.Bag.SentAt.IsZero() { // else observers have seen it
			e.Bag.SentAt = now
		}
		if err := o.engine.admit(&e.entry); err != nil {
			e.entry.err = err
			o.replies <- e
			continue
		}
		o.entries = append(o.entries, &e.entry)
	}
	if len(o.entries) > 0 {
		o.engine.sender.push(false, false, o.entries...)
	}
}

// Replies brings back what was sent.
func (o *Outlet) Replies() <-chan *Entry { return o.replies }

// Refusing is closed when nothing more is to be accepted: the lane flushes what it has
// and calls Flushed.
func (o *Outlet) Refusing() <-chan struct{} { return o.engine.refusing }

// Severed is closed when the time to flush is over: the lane gives up what is left,
// closes its dead-letter channel and calls Ended.
func (o *Outlet) Severed() <-chan struct{} { return o.engine.severed }

// Late reports that the channel was made after the end: nothing was ever accepted.
func (o *Outlet) Late() bool { return isClosed(o.engine.severed) }

// Flushed notes that the lane has nothing left.
func (o *Outlet) Flushed() { o.engine.flushing.add(-1) }

// Ended notes that the lane has closed its dead-letter channel, and how many accepted
// values it could neither deliver nor pass on.
func (o *Outlet) Ended(undelivered int) {
	if undelivered > 0 {
		o.book.undelivered(&o.open, undelivered)
		o.engine.undelivered.Add(int64(undelivered))
		o.Report(&swarm.CountError{Category: o.category, Count: undelivered, Err: swarm.ErrUndelivered})
	}
	o.engine.cfg.Barrier.Leave(o)
	for _, m := range o.Marks() {
		m.Resolved()
	}
	o.engine.mu.Lock()
	delete(o.engine.outlets, o)
	o.engine.mu.Unlock()
	o.engine.outletsOpen.add(-1)
}

// Confirmed notes that the broker has a value.
func (o *Outlet) Confirmed(e *Entry) {
	o.book.confirmed(&o.open)
	o.conclude(e, nil)
}

// Fail makes the error of a value that is to go to dlq, and reports it.
func (o *Outlet) Fail(e *Entry, err error) error {
	err = e.entry.failed(err)
	o.book.failed()
	o.conclude(e, err)
	o.Report(err)
	return err
}

// GivenUp notes that the time was up before the broker had a value: it may still go to dlq.
func (o *Outlet) GivenUp(e *Entry) {
	o.book.failed()
	o.conclude(e, swarm.ErrUndelivered)
}

func (o *Outlet) conclude(e *Entry, err error) {
	if o.engine.observers != nil {
		o.engine.observers.concluded(sent(&e.Bag, e.entry.attempts), err)
	}
}

// Left notes a value that the channel has buffered and that is given up.
func (o *Outlet) Left() {
	o.book.left(&o.open)
	if o.engine.observers != nil {
		e := swarm.Envelope{Category: o.category}
		o.engine.observers.accepted(context.Background(), e)
		o.engine.observers.concluded(e, swarm.ErrUndelivered)
	}
}

// DeadLettered notes that a value has gone to dlq.
func (o *Outlet) DeadLettered() { o.book.deadLettered(&o.open) }

// Dropped notes that values have failed and nobody was there to read dlq, and reports why.
func (o *Outlet) Dropped(n int, why error) {
	o.book.dropped(&o.open, n)
	o.Report(&swarm.CountError{Category: o.category, Count: n, Err: why})
}

// Refused counts a value that came after the end.
func (o *Outlet) Refused() { o.book.refused() }

// Report tells an error to StdErr and the log.
func (o *Outlet) Report(err error) { o.engine.report.report(err) }

// Warn logs something worth knowing.
func (o *Outlet) Warn(msg string) { o.engine.report.log.Warn("swarm: "+msg, "category", o.category) }

// outlet makes the outlet of a lane with a window.
func (e *Engine) outlet(category string, window int, buffered func() int) *Outlet {
	if !e.emits {
		panic("swarm: emit on a kernel that only listens")
	}
	if category == "" {
		panic("swarm: category to emit is empty")
	}
	book := e.emittedOf(category)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flushing.add(1)
	e.outletsOpen.add(1)
	o := &Outlet{engine: e, category: category, book: book, buffered: buffered, replies: make(chan *Entry, window), marked: make(chan struct{}, 1)}
	e.outlets[o] = struct{}{}
	e.cfg.Barrier.Join(o)
	return o
}
