// Package barrier makes an invocation wait for what was emitted while it ran. A process
// that is frozen when its handler returns (AWS Lambda) loses what is still on its way.
//
// Emit lanes join a barrier; invocations begin and end. A lane pays for it when it is
// marked: it alone knows what it has accepted, so the barrier asks, and counts nothing.
package barrier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Grace is how long an invocation that is about to fail waits for its dead letters to be
// read, and lanes may take to answer at its deadline.
const Grace = 100 * time.Millisecond

// Barrier knows the lanes and the open invocations of a process.
type Barrier struct {
	clock atomic.Int64 // how many invocations have begun

	mu    sync.Mutex
	lanes map[Lane]struct{}
	stuck map[Lane]*Mark // those that have not answered, and the question
	open  map[*Invocation]struct{}
}

// Lane is an emit channel.
type Lane interface {
	// Mark asks the lane to say when what it has accepted so far is done: see [Mark].
	// It is called again when the mark expires. It must not block.
	Mark(*Mark)

	// Quiet reports that it has accepted nothing since an invocation began, and that
	// nothing is in its buffer. The lane itself need not be able to say so.
	Quiet(began int64) bool
}

// New makes a barrier.
func New() *Barrier {
	return &Barrier{lanes: map[Lane]struct{}{}, stuck: map[Lane]*Mark{}, open: map[*Invocation]struct{}{}}
}

// Join adds a lane.
func (b *Barrier) Join(l Lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes[l] = struct{}{}
}

// Leave removes a lane: it gets no new marks.
func (b *Barrier) Leave(l Lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.lanes, l)
	delete(b.stuck, l)
}

// Now is the time at which a lane accepts a value, in invocations.
func (b *Barrier) Now() int64 { return b.clock.Load() }

// Fail fails the invocations that were open when a value was accepted, and still are.
func (b *Barrier) Fail(accepted int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for inv := range b.open {
		if inv.began <= accepted && inv.err == nil {
			inv.err = err
		}
	}
}

// Invocation is one call of the handler of a function.
type Invocation struct {
	barrier *Barrier
	began   int64
	err     error // guarded by Barrier.mu
}

// Begin opens an invocation. It must End.
func (b *Barrier) Begin() *Invocation {
	b.mu.Lock()
	defer b.mu.Unlock()
	inv := &Invocation{barrier: b, began: b.clock.Add(1)}
	b.open[inv] = struct{}{}
	return inv
}

// End closes the invocation: nothing fails it any more.
func (inv *Invocation) End() {
	inv.barrier.mu.Lock()
	defer inv.barrier.mu.Unlock()
	delete(inv.barrier.open, inv)
}

// Flush waits until all that any lane has accepted so far is confirmed or has failed, but
// no longer than ctx, nor than the deadline. It returns why a value of this invocation
// failed or was not confirmed in time. Idle lanes answer at once. One that hangs in code of
// the user, and did when an earlier invocation asked, is asked if it may have a value of this
// one.
func (inv *Invocation) Flush(ctx context.Context, deadline time.Time) error {
	b := inv.barrier
	b.mu.Lock()
	if len(b.lanes) == 0 {
		defer b.mu.Unlock()
		return inv.err
	}
	f := &flush{wake: make(chan struct{}, 1), began: inv.began}
	for l := range b.lanes {
		if before := b.stuck[l]; before != nil && before.answered() {
			delete(b.stuck, l)
		} else if before != nil && l.Quiet(inv.began) {
			continue
		}
		m := &Mark{flush: f, lane: l}
		f.marks = append(f.marks, m)
	}
	f.unconfirmed, f.unresolved = len(f.marks), len(f.marks)
	for _, m := range f.marks {
		m.lane.Mark(m)
	}
	b.mu.Unlock()

	last := Grace
	if end, ok := ctx.Deadline(); ok { // the answer comes before it
		last = min(last, end.Sub(deadline)/2)
	}
	ctx, cut := context.WithDeadline(ctx, deadline)
	defer cut()
	for f.wait(ctx, func() bool { return f.unconfirmed == 0 }) {
		grace, cancel := context.WithTimeout(ctx, Grace)
		f.wait(grace, func() bool { return f.unresolved == 0 || f.unconfirmed > 0 })
		cancel()
		if !f.wait(ctx, func() bool { return f.patient == 0 || f.unconfirmed > 0 }) || !f.pending() {
			break
		}
	}

	// What is left is given up.
	f.mu.Lock()
	left := make([]*Mark, 0, len(f.marks))
	for _, m := range f.marks {
		if !m.resolved {
			m.expired = true
			left = append(left, m)
		}
	}
	f.mu.Unlock()
	for _, m := range left {
		m.lane.Mark(m)
	}
	ending, cancel := context.WithTimeout(context.Background(), last)
	defer cancel()
	f.wait(ending, func() bool { return f.unresolved == 0 })

	b.mu.Lock()
	defer b.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if inv.err == nil {
		inv.err = f.err
	}
	for _, m := range left {
		if _, here := b.lanes[m.lane]; here && !m.resolved {
			b.stuck[m.lane] = m
		}
	}
	if inv.err == nil && f.unresolved > 0 {
		inv.err = fmt.Errorf("%d channels do not say what became of their values: %w", f.unresolved, ErrUnconfirmed)
	}
	return inv.err
}

// ErrUnconfirmed fails an invocation whose time was up.
var ErrUnconfirmed = errors.New("swarm: emitted and not confirmed in the time of the invocation")

// flush is one Flush.
type flush struct {
	wake  chan struct{} // capacity 1
	began int64

	mu                               sync.Mutex
	marks                            []*Mark
	unconfirmed, unresolved, patient int
	err                              error
}

// wait reports whether it is done, and not that ctx has ended before.
func (f *flush) wait(ctx context.Context, done func() bool) bool {
	for {
		f.mu.Lock()
		ok := done()
		f.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return false
		}
	}
}

func (f *flush) pending() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unconfirmed > 0
}

// Mark is the question of one Flush to one lane. The lane answers Confirmed when each value
// it had accepted is confirmed, has failed, or waits behind one that has, and Resolved when no
// dead letter of them waits to be read either. When the mark has Expired it gives up what is
// left, and answers Resolved.
type Mark struct {
	flush *flush
	lane  Lane

	confirmed, resolved, expired, patient bool // guarded by flush.mu
}

// Confirmed notes that nothing is on its way. Dead letters that wait are patient if taking
// them is what settles them.
func (m *Mark) Confirmed(patient bool) {
	m.change(func(f *flush) {
		if !m.confirmed {
			m.confirmed = true
			f.unconfirmed--
		}
		m.wait(patient && !m.resolved)
	})
}

// Pending notes that something is on its way after all: a dead letter was taken, and made room
// for what waited behind it.
func (m *Mark) Pending() {
	m.change(func(f *flush) {
		if m.confirmed && !m.resolved {
			m.confirmed = false
			f.unconfirmed++
			m.wait(false)
		}
	})
}

// wait notes whether the lane is patient. Callers hold mu of the flush.
func (m *Mark) wait(patient bool) {
	switch {
	case patient && !m.patient:
		m.flush.patient++
	case !patient && m.patient:
		m.flush.patient--
	}
	m.patient = patient
}

// Resolved notes that nothing is left.
func (m *Mark) Resolved() {
	m.Confirmed(false)
	m.change(func(f *flush) {
		if !m.resolved {
			m.resolved = true
			f.unresolved--
		}
	})
}

// Missed answers a mark that the lane sees for the first time when it has expired: it may have
// accepted what the invocation waits for. One that was answered stays so.
func (m *Mark) Missed() {
	if !m.answered() {
		m.Spoil(ErrUnconfirmed)
		m.Resolved()
	}
}

func (m *Mark) answered() bool {
	m.flush.mu.Lock()
	defer m.flush.mu.Unlock()
	return m.resolved
}

// Began is when the invocation of the mark did: values that were accepted later are its
// own, others may be.
func (m *Mark) Began() int64 { return m.flush.began }

// Spoil fails the invocation of the mark.
func (m *Mark) Spoil(err error) {
	m.flush.mu.Lock()
	defer m.flush.mu.Unlock()
	if m.flush.err == nil {
		m.flush.err = err
	}
}

// Expired reports that the time of the mark is over.
func (m *Mark) Expired() bool {
	m.flush.mu.Lock()
	defer m.flush.mu.Unlock()
	return m.expired
}

func (m *Mark) change(f func(*flush)) {
	m.flush.mu.Lock()
	f(m.flush)
	m.flush.mu.Unlock()
	select {
	case m.flush.wake <- struct{}{}:
	default:
	}
}
