package kernel

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// Outlet is the engine's end of an emit lane. Package emit has the other end, the
// goroutine that takes values off a channel and encodes them. Only that goroutine may
// call its methods.
type Outlet struct {
	engine   *Engine
	category string
	window   int
	replies  chan *Entry // capacity window: an answer never waits for the lane
	ids      idBlock
	entries  []*entry
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

// Attempts is how often the value was sent.
func (e *Entry) Attempts() int { return e.entry.attempts }

// Config of the kernel.
func (o *Outlet) Config() swarm.Config { return o.engine.cfg }

// Batch is how many values fill a request.
func (o *Outlet) Batch() int { return o.engine.limits.Entries }

// NewEntry makes the entry of a slot.
func (o *Outlet) NewEntry(slot int) *Entry {
	e := &Entry{Slot: slot}
	e.entry.bag = &e.Bag
	e.entry.done = func(*entry) { o.replies <- e }
	return e
}

// Fill readies an entry for the next value: a bag with a fresh id.
func (o *Outlet) Fill(e *Entry) {
	e.Bag = driver.Bag{Category: o.category, Source: o.engine.cfg.Source, ID: o.ids.next(o.engine)}
	e.entry.attempts, e.entry.err = 0, nil
}

// Send hands entries over to be sent, in this order. Each of them comes back on
// Replies once. At most as many as the window may be on their way.
func (o *Outlet) Send(entries ...*Entry) {
	o.entries = o.entries[:0]
	for _, e := range entries {
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

// Flushed notes that the lane has nothing left.
func (o *Outlet) Flushed() { o.engine.flushing.add(-1) }

// Ended notes that the lane has closed its dead-letter channel, and how many accepted
// values it could neither deliver nor pass on.
func (o *Outlet) Ended(undelivered int) {
	if undelivered > 0 {
		o.engine.undelivered.Add(int64(undelivered))
		o.Report(&swarm.CountError{Category: o.category, Count: undelivered, Err: swarm.ErrUndelivered})
	}
	o.engine.outletsOpen.add(-1)
}

// Fail makes the error of a value, and reports it.
func (o *Outlet) Fail(e *Entry, err error) error {
	err = &swarm.EmitError{Category: o.category, ID: e.Bag.ID, Attempts: e.entry.attempts, Err: err}
	o.Report(err)
	return err
}

// Report tells an error to StdErr and the log.
func (o *Outlet) Report(err error) { o.engine.report.report(err) }

// Warn logs something worth knowing.
func (o *Outlet) Warn(msg string) { o.engine.report.log.Warn("swarm: "+msg, "category", o.category) }

// outlet makes the outlet of a lane with a window.
func (e *Engine) outlet(category string, window int) *Outlet {
	if !e.emits {
		panic("swarm: emit on a kernel that only listens")
	}
	if category == "" {
		panic("swarm: category to emit is empty")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flushing.add(1)
	e.outletsOpen.add(1)
	return &Outlet{engine: e, category: category, window: window, replies: make(chan *Entry, window)}
}

// enqueue sends one bag and waits until the broker has accepted it.
func (e *Engine) enqueue(ctx context.Context, bag *driver.Bag) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if e.isRefusing() {
		return swarm.ErrClosed
	}
	fail := func(x *entry, err error) error {
		return &swarm.EmitError{Category: bag.Category, ID: bag.ID, Attempts: x.attempts, Err: err}
	}
	done := make(chan struct{})
	x := &entry{bag: bag, done: func(*entry) { close(done) }}
	if err := e.admit(x); err != nil {
		return fail(x, err)
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
		return fmt.Errorf("swarm: emit %s %s: %w", bag.Category, bag.ID, context.Cause(ctx))
	}
	if x.err != nil {
		return fail(x, x.err)
	}
	return nil
}

// newBag makes a bag for a synchronous caller.
func (e *Engine) newBag(category string) driver.Bag {
	var ids idBlock
	return driver.Bag{Category: category, Source: e.cfg.Source, ID: ids.one(e)}
}

// admit refuses what the broker would refuse, before any call.
func (e *Engine) admit(x *entry) error {
	return driver.Permanent(safely(func() error { return e.checked(x) }))
}

func (e *Engine) checked(x *entry) error {
	l := &e.limits
	if x.bag.Group == "" && l.Ordered {
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

// newPrefix makes the part of message ids that is the kernel's own.
func newPrefix() string { return strings.ToLower(rand.Text()[:16]) }

// idBlock hands out message ids: the prefix of the kernel and a number. The text of a
// block of ids is made at once, and the ids are parts of it.
type idBlock struct {
	text string
}

const (
	idsPerBlock = 32
	idDigits    = 9 // base 32: 35 bn
	alphabet    = "0123456789abcdefghijklmnopqrstuv"
)

var idBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (b *idBlock) next(e *Engine) string {
	if b.text == "" {
		b.text = e.newIDs(idsPerBlock)
	}
	n := len(e.prefix) + idDigits
	id := b.text[:n]
	b.text = b.text[n:]
	return id
}

func (b *idBlock) one(e *Engine) string { return e.newIDs(1) }

func (e *Engine) newIDs(n int) string {
	last := e.sequence.Add(uint64(n))
	buf := idBuffers.Get().(*[]byte)
	text := (*buf)[:0]
	for i := last - uint64(n) + 1; i <= last; i++ {
		text = append(text, e.prefix...)
		for shift := 5 * (idDigits - 1); shift >= 0; shift -= 5 {
			text = append(text, alphabet[i>>shift&31])
		}
	}
	*buf = text
	defer idBuffers.Put(buf)
	return string(text)
}
