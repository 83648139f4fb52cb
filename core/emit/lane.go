package emit

import (
	"errors"
	"runtime"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/kernel"
)

// patience is how long a lane waits for its dlq to be read before it says so.
const patience = 3 * time.Second

// lane is the goroutine behind one emit channel. It alone has the values that are on
// their way, the failures, and dlq.
type lane[T any] struct {
	format[T]
	out    *kernel.Outlet
	cfg    swarm.Config
	enq    chan T
	dlq    chan T
	closed bool // the user has closed enq

	slots    []slot[T]
	free     []int
	inflight int
	ready    []*kernel.Entry // accepted, to be sent together
	failed   []deadLetter[T] // waiting for dlq
	lost     []T             // given up by the kernel
	refused  int             // since the last report

	accepted uint64 // values so far: the number of the last one
	marks    []mark // of invocations that wait for this lane
	givenUp  stamp  // of the last value that an invocation did not wait for any longer

	waiting *time.Timer // dlq is not read
	warned  bool
}

type slot[T any] struct {
	entry *kernel.Entry
	value T
	stamp
}

// stamp tells when a value was accepted: its number in the lane, and the time of the
// process in invocations. The zero stamp is of a free slot.
type stamp struct {
	number  uint64
	at      int64
	givenUp bool // by an invocation: none that begins later waits for it
}

type deadLetter[T any] struct {
	value T
	err   error
	stamp
}

func start[T any](q Emitter, f format[T]) (chan<- T, <-chan T) {
	mustKernel(q)
	cfg := q.Config()
	capacity := cfg.DeadLetterCapacity
	if cfg.DeadLetterHandled && !cfg.AtMostOnce {
		capacity = 0 // who takes a dead letter has dealt with it: a buffer has not
	}
	enq := make(chan T, cfg.EmitCapacity)
	l := &lane[T]{
		format: f,
		out:    q.Outlet(f.category, cfg.EmitWindow, func() int { return len(enq) }),
		cfg:    cfg,
		enq:    enq,
		dlq:    make(chan T, capacity),
	}
	go l.run()
	return l.enq, l.dlq
}

// run is the life of the lane: accept values until it is told to refuse, flush what it
// has, give up what is left at the end, and refuse what still comes.
func (l *lane[T]) run() {
	left := 0
	if !l.out.Late() {
		l.accept()
		// A send into the buffer was accepted, so what is there now is flushed. This
		// goroutine is the only reader: what is there comes first.
		left = len(l.enq)
	}
	left = l.flush(left)
	l.out.Flushed()
	undelivered := l.giveUp(left)
	close(l.dlq)
	l.out.Ended(undelivered)
	for _, v := range l.lost {
		l.tell(v, swarm.ErrUndelivered) // last: Close has the count, and does not wait
	}
	l.lost = nil
	l.refuse()
}

// accept takes values as long as the window has room.
func (l *lane[T]) accept() {
	for {
		enq := l.enq
		if !l.room() {
			enq = nil
		}
		dlq, head := l.deadLetter()
		select {
		case v, ok := <-enq:
			if !ok {
				l.closed = true
				return
			}
			l.take(v)
			if l.gather(); l.closed {
				return
			}
		case e := <-l.out.Replies():
			l.replied(e)
		case dlq <- head:
			l.deadLettered()
		case <-l.impatient():
			l.complain()
		case <-l.out.Marked():
			l.mark()
		case <-l.out.Refusing():
			return
		}
	}
}

// gather takes more values while they come at once, so that they travel together, and
// sends them.
func (l *lane[T]) gather() {
	yielded := false
	for !l.closed && l.room() && len(l.ready) < l.out.Batch() {
		select {
		case v, ok := <-l.enq:
			if !ok {
				l.closed = true
				break
			}
			yielded = false
			l.take(v)
			continue
		default:
		}
		if yielded {
			break
		}
		yielded = true
		runtime.Gosched() // the producer may be about to send
	}
	l.send()
	l.answerMarks() // what cannot be encoded is not on its way
}

// flush sends and waits until nothing is left, or the time is over. It takes the left
// values that were buffered, refuses others, and returns how many it did not get to.
func (l *lane[T]) flush(left int) int {
	for left > 0 || l.inflight > 0 || len(l.failed) > 0 {
		enq := l.enq
		if l.closed || left > 0 && !l.room() {
			enq = nil
		}
		dlq, head := l.deadLetter()
		select {
		case v, ok := <-enq:
			switch {
			case !ok:
				l.closed, left = true, 0
			case left > 0:
				left--
				l.take(v)
				l.send()
				l.answerMarks()
			default:
				l.refuseOne(v)
			}
		case e := <-l.out.Replies():
			l.replied(e)
		case dlq <- head:
			l.deadLettered()
		case <-l.impatient():
			l.complain()
		case <-l.out.Marked():
			l.mark()
		case <-l.out.Severed():
			return left
		}
	}
	return 0
}

// giveUp ends what is left: values the kernel has given back, failures nobody has
// taken, and left values in the buffer. It returns how many dlq had no room for.
func (l *lane[T]) giveUp(left int) (undelivered int) {
	for l.inflight > 0 {
		l.replied(<-l.out.Replies()) // the kernel has answered all of them
	}
	for ; left > 0; left-- {
		v, ok := <-l.enq
		if !ok {
			l.closed = true
			break
		}
		l.lost = append(l.lost, v)
		l.out.Left()
	}
	for _, letter := range l.failed {
		select {
		case l.dlq <- letter.value:
			l.out.DeadLettered()
		default:
			undelivered++
			l.out.Spoil(letter.at, letter.err)
		}
	}
	for _, v := range l.lost {
		select {
		case l.dlq <- v:
			l.out.DeadLettered()
		default:
			undelivered++
		}
	}
	if len(l.lost) > 0 {
		l.out.Spoil(l.out.Now(), swarm.ErrUndelivered)
	}
	l.failed = nil
	for _, m := range l.marks {
		m.Resolved()
	}
	l.marks = nil
	return undelivered
}

// refuse takes what still comes until the user closes enq, and reports it in
// aggregate.
func (l *lane[T]) refuse() {
	var report <-chan time.Time
	for !l.closed {
		if l.refused > 0 && report == nil {
			report = time.After(time.Second)
		}
		select {
		case v, ok := <-l.enq:
			if !ok {
				l.closed = true
				break
			}
			l.refuseOne(v)
		case <-report:
			report = nil
			l.reportRefused()
		}
	}
	l.reportRefused()
}

func (l *lane[T]) refuseOne(v T) {
	l.refused++
	l.out.Refused()
	l.out.Spoil(l.out.Now(), swarm.ErrClosed)
	l.tell(v, swarm.ErrClosed)
}

func (l *lane[T]) reportRefused() {
	if l.refused > 0 {
		l.out.Report(&swarm.CountError{Category: l.category, Count: l.refused, Err: swarm.ErrClosed})
		l.refused = 0
	}
}

// room for one more value. A dead letter that its invocation has given up takes none: the
// next one is not to wait for somebody to read it.
func (l *lane[T]) room() bool {
	n := l.inflight
	for i := range l.failed {
		if !l.failed[i].givenUp {
			n++
		}
	}
	return n < l.cfg.EmitWindow
}

// take encodes a value.
func (l *lane[T]) take(v T) {
	n := len(l.free)
	if n == 0 {
		l.slots = append(l.slots, slot[T]{entry: l.out.NewEntry(len(l.slots))})
		l.free = append(l.free, len(l.slots)-1)
		n = 1
	}
	s := &l.slots[l.free[n-1]]
	l.out.Fill(s.entry)
	l.accepted++
	now := stamp{number: l.accepted, at: l.out.Now()}
	if l.accepted <= l.givenUp.number {
		now.at, now.givenUp = l.givenUp.at, true
	}
	err := l.encode(v, &s.entry.Bag)
	if l.out.Carries(l.context != nil) {
		l.out.Carry(l.contextOf(v), s.entry)
	}
	if err != nil {
		l.fail(deadLetter[T]{v, l.out.Fail(s.entry, err), now})
		return
	}
	l.free = l.free[:n-1]
	l.inflight++
	s.value, s.stamp = v, now
	l.ready = append(l.ready, s.entry)
}

func (l *lane[T]) send() {
	if len(l.ready) > 0 {
		l.out.Send(l.ready...)
		l.ready = l.ready[:0]
	}
}

// replied notes what became of a value.
func (l *lane[T]) replied(e *kernel.Entry) {
	for more := true; more; {
		l.conclude(e)
		select {
		case e = <-l.out.Replies():
		default:
			more = false
		}
	}
	l.answerMarks()
}

func (l *lane[T]) conclude(e *kernel.Entry) {
	var zero T
	s := &l.slots[e.Slot]
	v, accepted := s.value, s.stamp
	s.value, s.stamp = zero, stamp{}
	l.free = append(l.free, e.Slot)
	l.inflight--
	switch err := e.Err(); {
	case err == nil:
		l.out.Confirmed(e)
	case errors.Is(err, swarm.ErrUndelivered):
		l.lost = append(l.lost, v)
		l.out.GivenUp(e)
	default:
		l.fail(deadLetter[T]{v, l.out.Fail(e, err), accepted})
	}
}

// fail puts a value on its way to dlq. At most once does not wait for room there.
func (l *lane[T]) fail(letter deadLetter[T]) {
	l.tell(letter.value, letter.err)
	if !l.cfg.DeadLetterHandled {
		l.out.Spoil(letter.at, letter.err)
	}
	if !l.cfg.AtMostOnce {
		l.failed = append(l.failed, letter)
		return
	}
	select {
	case l.dlq <- letter.value:
		l.out.DeadLettered()
	default:
		l.out.Dropped(1, swarm.ErrDropped)
	}
}

// tell calls the user's function, if there is one.
func (l *lane[T]) tell(v T, err error) {
	if l.onFailure == nil {
		return
	}
	if p := codec.Safely(func() error { l.onFailure(v, err); return nil }); p != nil {
		l.out.Report(p)
	}
}

// deadLetter is what goes to dlq next; a nil channel when nothing does.
func (l *lane[T]) deadLetter() (dlq chan<- T, head T) {
	if len(l.failed) == 0 {
		return nil, head
	}
	return l.dlq, l.failed[0].value
}

func (l *lane[T]) deadLettered() {
	l.out.DeadLettered()
	l.failed[0] = deadLetter[T]{}
	l.failed = l.failed[1:]
	l.patient()
	l.answerMarks()
}

// patient begins the wait for dlq anew.
func (l *lane[T]) patient() {
	if l.waiting != nil {
		l.waiting.Stop()
		l.waiting = nil
	}
}

// impatient fires, once, when dlq was not read for a while.
func (l *lane[T]) impatient() <-chan time.Time {
	if len(l.failed) == 0 || l.warned {
		return nil
	}
	if l.waiting == nil {
		l.waiting = time.NewTimer(patience)
	}
	return l.waiting.C
}

// complain explains the classic deadlock: a goroutine that sends on enq, and would
// read dlq only afterwards.
func (l *lane[T]) complain() {
	l.warned = true
	l.out.Warn("the channel is blocked: a value failed and its dead-letter channel is not read; " +
		"read dlq in another goroutine (swarm.LogDeadLetters), or use a synchronous emitter")
}
