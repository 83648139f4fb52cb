package qtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// lifecycleCases run and end kernels.
var lifecycleCases = []Case{
	{"C1", "Close: releases what was not handed over, and closes deq", []need{listens}, closeReleases},
	{"C1", "Close: settles the acknowledgements that are under way", []need{listens}, closeSettles},
	{"C1", "Close: delivers what was accepted, also from buffers", []need{emits}, closeFlushes},
	{"C1", "Close: delivers the replies that consumers emit while it waits for them", []need{emits, listens}, closeReplies},
	{"C1", "Close: says exactly how many values were not delivered", []need{emits}, closeUndelivered},
	{"C1", "Close: says exactly how many messages were not settled", []need{listens}, closeUnsettled},
	{"C1", "Close: under load, the other kernels of the queue get the rest, each message once", []need{listens}, closeUnderLoad},

	{"C2", "after Close: sends are refused and reported, they neither panic nor hang", []need{emits}, closedSends},
	{"C2", "after Close: a channel made then refuses too", []need{emits}, closedLane},
	{"C2", "after Close: a message may still come back on ack", []need{listens}, closedAcks},

	{"C3", "Close: may be called again and from many goroutines, the driver is closed once and last", nil, closeTwice},
	{"C3", "Close: interrupts calls and retries of sends at its deadline", []need{emits}, closeInterruptsSends},
	{"C3", "Close: interrupts calls of a poller at once, and settlements at its deadline", []need{listens}, closeInterruptsListener},
	{"C3", "Close: leaves no goroutine behind", nil, closeLeavesNothing},

	{"C4", "dlq: unread, does not block Close", []need{emits}, unreadDeadLetters},
	{"C4", "StdErr: unread, blocks neither consumers nor Close", []need{listens}, unreadStdErr},

	{"C5", "Run: serves until its context ends, then drains", nil, runDrains},
	{"C5", "Run: a second time is refused", nil, runTwice},
	{"C5", "Run: ends with the cause when the broker fails for good", []need{listens}, runFails},
}

func closeReleases(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	const n = 5
	r.inject(r.notes("release", n)...)
	start := time.Now()
	k.start()
	first := take(r, "deq", deq)
	pause(r.Context(), r.moment())
	closed := r.goClose(k.probe)
	// No consumer is ready for more, so nothing more is handed over. One that were
	// might still get some before Close has come to that.
	pause(r.Context(), r.moment())
	held := append(ends(r, "deq", deq), first)
	if r.Virtual && len(held) > 1 {
		r.Errorf("%d messages are handed over while closing", len(held)-1)
	}
	if isClosed(closed.done) {
		r.Errorf("Close did not wait for the message that is worked on")
	}
	var got []string
	for _, msg := range held {
		got = append(got, msg.Object.Text)
		send(r, ack, msg)
	}
	if err := closed.wait(); err != nil {
		r.Errorf("Close: %v", err)
	}
	for _, note := range s.received() {
		for _, text := range textsOf(note.bags) {
			if slices.Contains(got, text) {
				r.settledOnce(s, text, driver.Ack)
			} else {
				r.settledOnce(s, text, driver.Release)
			}
		}
	}
	rest := r.receive(r.farSide(), n-len(held))
	if took := time.Since(start); r.Visibility > 0 && took >= r.Visibility {
		r.Errorf("the rest came back after %s, with its lease", took)
	}
	r.settle(r.farSide(), acked(rest...)...)
	r.sameText("received", append(textsOf(rest), got...), names("release", n))
}

// closing is a Close in a goroutine.
type closing struct {
	done chan struct{}
	err  error
}

func (r *rig) goClose(p *probe) *closing {
	c := &closing{done: make(chan struct{})}
	go func() { defer close(c.done); c.err = p.close() }()
	return c
}

func (c *closing) wait() error {
	<-c.done
	return c.err
}

func closeSettles(r *rig) {
	s := r.spy()
	s.onSettle = func(ctx context.Context, _ []driver.Settlement) error {
		pause(ctx, 30*time.Millisecond)
		return ctx.Err()
	}
	const n = 10
	k := r.listener(s, swarm.WithPolicyAtLeastOnce(n))
	deq, ack := listen.Typed[note](k)
	r.inject(r.notes("pending", n)...)
	k.start()
	var got []string
	for range n {
		msg := take(r, "deq", deq)
		got = append(got, msg.Object.Text)
		send(r, ack, msg)
	}
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	for _, text := range got {
		r.settledOnce(s, text, driver.Ack)
	}
	r.gone(r.farSide(), "acknowledged")
}

func closeFlushes(r *rig) {
	s := r.spy()
	s.onSend = func(ctx context.Context, _ []driver.Bag) error {
		pause(ctx, 5*time.Millisecond)
		return ctx.Err()
	}
	const n = 25
	k := r.emitter(s, swarm.WithEmitWindow(5), swarm.WithEmitCapacity(n))
	enq, dlq := r.lane(k)
	want := names("flush", n)
	for _, text := range want {
		send(r, enq, note{text})
	}
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	if n := len(ends(r, "dlq", dlq)); n > 0 {
		r.Errorf("%d values on dlq", n)
	}
	r.sameText("accepted when Close has returned", s.accepted(), want)
	r.sameText("arrived", textsOf(r.arrivals(n)), want)
}

func closeReplies(r *rig) {
	k := r.endpoint(r.spy())
	deq, ack := listen.Typed[note](k)
	replies, _ := r.lane(k, emit.Category("reply"))
	r.inject(r.note("question"))
	k.start()
	question := take(r, "deq", deq)
	closed := r.goClose(k.probe)
	ends(r, "deq", deq)
	for _, text := range names("reply", 3) {
		send(r, replies, note{text})
	}
	send(r, ack, question)
	if err := closed.wait(); err != nil {
		r.Errorf("Close: %v", err)
	}
	r.sameText("arrived", textsOf(r.arrivals(3)), names("reply", 3))
	r.stragglers("the question was acknowledged")
}

// drainTimeout is short, where a case lets Close run into its deadline. A fifth of it has to
// be enough for a request.
func (r *rig) drainTimeout() time.Duration { return max(time.Second, 6*r.Slack) }

func closeUndelivered(r *rig) {
	s := r.spy()
	s.onSend = func(ctx context.Context, _ []driver.Bag) error { <-ctx.Done(); return ctx.Err() }
	k := r.emitter(s, swarm.WithEmitWindow(3), swarm.WithEmitCapacity(2), swarm.WithDrainTimeout(r.drainTimeout()), r.patient())
	enq, dlq := r.lane(k)
	var accepted atomic.Int64
	r.produce(func() {
		for i := 0; !isClosed(k.Done()); i++ {
			if !offer(r, enq, note{fmt.Sprintf("stuck-%d", i)}, r.Patience) {
				return
			}
			accepted.Add(1)
		}
	})
	r.eventually("window and buffer are full", func() bool { return accepted.Load() >= 5 })
	err := k.close()
	onDLQ := len(ends(r, "dlq", dlq))
	r.producers.Wait()
	left := r.drainError(err)
	want := func() int { return int(accepted.Load()-k.refused.Load()) - onDLQ }
	r.within(r.Patience, func() bool { return left.Undelivered == want() })
	if left.Undelivered != want() || left.Unsettled != 0 || left.Unconfirmed != 0 {
		r.Errorf("%d accepted, %d on dlq, %d refused: Close says %v", accepted.Load(), onDLQ, k.refused.Load(), err)
	}
}

// drainError expects that Close has left something behind.
func (r *rig) drainError(err error) swarm.DrainError {
	r.Helper()
	left, ok := errors.AsType[*swarm.DrainError](err)
	if !ok {
		r.Fatalf("Close: got %v, want a *swarm.DrainError", err)
	}
	return *left
}

func closeUnsettled(r *rig) {
	s := r.spy()
	s.refuseSettle = func(v driver.Settlement) error {
		if textOf(v.Bag.Body) == "left-0" {
			return errNow
		}
		return nil
	}
	k := r.listener(s, swarm.WithDrainTimeout(r.drainTimeout()), swarm.WithPollerPool(3))
	deq, ack := listen.Typed[note](k)
	r.inject(r.notes("left", 3)...)
	k.start()
	held := map[string]swarm.Msg[note]{}
	for range 3 {
		msg := take(r, "deq", deq)
		held[msg.Object.Text] = msg
	}
	send(r, ack, held["left-0"]) // the broker will not confirm it
	err := k.close()
	left := r.drainError(err)
	if left.Unsettled != 2 || left.Unconfirmed != 1 || left.Undelivered != 0 {
		r.Errorf("2 messages are not settled, 1 settlement is not confirmed: Close says %v", err)
	}
	for _, text := range names("left", 3)[1:] {
		r.settledOnce(s, text, driver.Nack)
		send(r, ack, held[text])
	}
}

func closeUnderLoad(r *rig) {
	n := min(300, r.Messages)
	var got journal
	var kernels []listener
	var spies []*spy
	for i := range 3 {
		s := r.spy()
		k := r.listener(s, swarm.WithPolicyAtLeastOnce(5))
		deq, ack := listen.Typed[note](k)
		for j := range 2 {
			// Out of step, so that Close hits a micro-batch in the middle.
			work := time.Duration(700+130*(2*i+j)) * time.Microsecond
			consume(r, deq, ack, func(msg swarm.Msg[note]) error {
				pause(r.Context(), work)
				got.add(msg.Object.Text)
				return nil
			})
		}
		k.start()
		kernels, spies = append(kernels, k), append(spies, s)
	}
	start := time.Now()
	r.inject(r.notes("load", n)...)
	for i, k := range kernels[:2] {
		r.eventually("there is load", func() bool { return got.len() > (i+1)*n/5+2 })
		if err := k.close(); err != nil {
			r.Errorf("Close of kernel %d: %v", i, err)
		}
	}
	r.eventually("all are received", func() bool { return got.len() >= n })
	if took := time.Since(start); r.Virtual && r.Visibility > 0 && took >= r.Visibility {
		r.Errorf("took %s: the closed kernels have kept messages", took)
	}
	if err := kernels[2].close(); err != nil {
		r.Errorf("Close of the last kernel: %v", err)
	}
	r.sameText("received", got.all(), names("load", n))
	var acked []string
	for _, s := range spies {
		for _, note := range s.settled() {
			if note.Outcome == driver.Ack && note.err == nil {
				acked = append(acked, textOf(note.bag.Body))
			}
		}
	}
	r.sameText("acknowledged", acked, names("load", n))
}

func closedSends(r *rig) {
	k := r.emitter(r.spy())
	var told journal
	enq, dlq := r.lane(k, emit.OnFailure(func(n note, err error) {
		if errors.Is(err, swarm.ErrClosed) {
			told.add(n.Text)
		}
	}))
	send(r, enq, note{"before"})
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	if !isClosed(k.Done()) {
		r.Errorf("Done is not closed")
	}
	if n := len(ends(r, "dlq", dlq)); n > 0 {
		r.Errorf("%d values on dlq", n)
	}
	const n = 5
	for _, text := range names("after", n) {
		r.promptly("send after Close", func() { send(r, enq, note{text}) })
	}
	r.eventually("refusals are told", func() bool { return told.len() == n })
	r.eventually("refusals are reported", func() bool { return k.refused.Load() == n })
	r.sameText("arrived", textsOf(r.arrivals(1)), []string{"before"})
	r.stragglers("refused after Close")
}

func closedLane(r *rig) {
	k := r.emitter(r.spy())
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	const n = 3
	for i := range n {
		enq, dlq := r.lane(k, emit.Category(fmt.Sprintf("late-%d", i)))
		r.promptly("send", func() { send(r, enq, note{"late"}) })
		if dead := ends(r, "dlq", dlq); len(dead) > 0 {
			r.Errorf("on dlq: %v", dead)
		}
	}
	r.eventually("refusals are reported", func() bool { return k.refused.Load() == n })
	r.stragglers("refused after Close")
}

func closedAcks(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithDrainTimeout(r.drainTimeout()))
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("late"))
	k.start()
	msg := take(r, "deq", deq)
	left := r.drainError(k.close())
	if left.Unsettled != 1 {
		r.Errorf("Close: got %+v, want 1 unsettled", left)
	}
	r.promptly("ack after Close", func() { send(r, ack, msg) })
	r.settledOnce(s, "late", driver.Nack)
	again := r.receive(r.farSide(), 1)
	r.settle(r.farSide(), acked(again...)...)
}

// anyKernel builds a kernel that the broker can have, with a lane of each kind. It
// answers what makes the kernel, once it runs, do its work.
func (r *rig) anyKernel(s *spy) (*probe, func()) {
	r.Helper()
	switch {
	case r.EmitOnly:
		k := r.emitter(s)
		enq, _ := r.lane(k)
		return k.probe, func() {
			send(r, enq, note{"value"})
			r.arrivals(1)
		}
	case r.ListenOnly:
		k := r.listener(s)
		deq, ack := listen.Typed[note](k)
		return k.probe, func() {
			r.inject(r.note("message"))
			send(r, ack, take(r, "deq", deq))
		}
	}
	k := r.endpoint(s)
	deq, ack := listen.Typed[note](k)
	enq, _ := r.lane(k)
	return k.probe, func() {
		send(r, enq, note{"message"})
		send(r, ack, take(r, "deq", deq))
	}
}

func closeTwice(r *rig) {
	s := r.spy()
	p, work := r.anyKernel(s)
	p.start()
	work()
	errs := make([]error, 5)
	var callers sync.WaitGroup
	for i := range errs {
		callers.Go(func() { errs[i] = p.close() })
	}
	r.promptly("Close", callers.Wait)
	errs = append(errs, p.close())
	for _, err := range errs {
		if err != nil {
			r.Errorf("Close: %v", err)
		}
	}
	pause(r.Context(), r.moment())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closes != 1 || s.late > 0 {
		r.Errorf("the driver was closed %d times, and called %d times after", s.closes, s.late)
	}
}

// endsInTime fails unless Close keeps its deadline, and answers its error.
func (r *rig) endsInTime(p *probe, limit time.Duration) error {
	r.Helper()
	start := time.Now()
	closed := r.goClose(p)
	r.eventually("Close returns", func() bool { return isClosed(closed.done) })
	if took := time.Since(start); took > limit+r.late() {
		r.Errorf("Close took %s, its limit is %s", took, limit)
	}
	return closed.wait()
}

func closeInterruptsSends(r *rig) {
	for _, hangs := range []bool{true, false} {
		s := r.spy()
		s.onSend = func(ctx context.Context, _ []driver.Bag) error {
			if hangs {
				<-ctx.Done()
			}
			return errNow
		}
		k := r.emitter(s, swarm.WithDrainTimeout(r.drainTimeout()), swarm.WithRetryConstant(10*r.Patience, 5), r.patient())
		enq, dlq := r.lane(k)
		send(r, enq, note{"stuck"})
		r.eventually("it is sent", func() bool { return len(s.sent()) > 0 })
		err := r.endsInTime(k.probe, r.drainTimeout())
		if n := r.drainError(err).Undelivered + len(ends(r, "dlq", dlq)); n != 1 {
			r.Errorf("1 value is left, Close says %v", err)
		}
	}
}

func closeInterruptsListener(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, _ := listen.Typed[note](k)
	k.start()
	r.eventually("it receives", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.begun > 0 })
	if err := r.endsInTime(k.probe, 0); err != nil {
		r.Errorf("Close while it receives: %v", err)
	}
	ends(r, "deq", deq)

	s = r.spy()
	s.onSettle = func(ctx context.Context, _ []driver.Settlement) error { <-ctx.Done(); return ctx.Err() }
	k = r.listener(s, swarm.WithDrainTimeout(r.drainTimeout()), r.patient())
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("hung"))
	k.start()
	send(r, ack, take(r, "deq", deq))
	err := r.endsInTime(k.probe, r.drainTimeout())
	if r.drainError(err).Unconfirmed != 1 {
		r.Errorf("1 settlement hangs, Close says %v", err)
	}
}

func closeLeavesNothing(r *rig) {
	engine := func() int {
		n := 0
		for stack := range strings.SplitSeq(goroutines(r.label), "\n\n") {
			for _, pkg := range []string{"kernel", "emit", "listen"} {
				if strings.Contains(stack, "github.com/fogfish/swarm/core/"+pkg+".") {
					n++
					break
				}
			}
		}
		return n
	}
	for range 3 {
		s := r.spy()
		switch {
		case r.EmitOnly:
			k := r.emitter(s)
			enq, _ := emit.Typed[note](k)
			send(r, enq, note{"value"})
			if err := k.close(); err != nil {
				r.Errorf("Close: %v", err)
			}
			close(enq)
		default:
			k := r.listener(s)
			deq, ack := listen.Typed[note](k)
			listen.Unknown(k)
			r.inject(r.note("message"))
			k.start()
			msg := take(r, "deq", deq)
			if engine() == 0 {
				r.Errorf("no goroutine of the kernel is seen: this case would see no leak")
			}
			send(r, ack, msg)
			if err := k.close(); err != nil {
				r.Errorf("Close: %v", err)
			}
		}
	}
	r.eventually("the goroutines of the kernels end", func() bool { return engine() == 0 })
}

func unreadDeadLetters(r *rig) {
	s := r.spy()
	s.refuseSend = func(driver.Bag) error { return errGood }
	k := r.emitter(s, swarm.WithDrainTimeout(r.drainTimeout()), swarm.WithEmitWindow(3))
	enq, dlq := r.lane(k)
	for _, text := range names("unread", 3) {
		send(r, enq, note{text})
	}
	r.eventually("they are refused", func() bool { return len(s.sent()) == 3 })
	err := r.endsInTime(k.probe, r.drainTimeout())
	if left := r.drainError(err); left.Undelivered != 3 {
		r.Errorf("3 values were left for dlq, Close says %v", err)
	}
	if n := len(ends(r, "dlq", dlq)); n > 0 {
		r.Errorf("%d values on dlq, which has no buffer", n)
	}
}

func unreadStdErr(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithStdErr(make(chan error)), swarm.WithDrainTimeout(5*time.Second))
	deq, ack := listen.Typed[note](k)
	var sent []driver.Bag
	for i := range 5 {
		sent = append(sent, r.bag(fmt.Sprintf("poison %d", i)), r.note(fmt.Sprintf("good-%d", i)))
	}
	r.inject(sent...)
	k.start()
	var got []string
	for range 5 {
		msg := take(r, "deq", deq)
		got = append(got, msg.Object.Text)
		send(r, ack, msg)
	}
	r.sameText("received", got, names("good", 5))
	if err := r.endsInTime(k.probe, time.Second); err != nil {
		r.Errorf("Close: %v", err)
	}
}

func runDrains(r *rig) {
	s := r.spy()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var p *probe
	var work func()
	if r.EmitOnly {
		k := r.emitter(s, swarm.WithEmitCapacity(10))
		enq, _ := r.lane(k)
		p, work = k.probe, func() {
			for _, text := range names("drained", 10) {
				send(r, enq, note{text})
			}
		}
	} else {
		k := r.listener(s)
		deq, ack := listen.Typed[note](k)
		r.inject(r.notes("drained", 10)...)
		p, work = k.probe, func() {
			for range 10 {
				send(r, ack, take(r, "deq", deq))
			}
		}
	}
	var err error
	ended := make(chan struct{})
	go func() { defer close(ended); err = p.k.Run(ctx) }()
	work()
	if isClosed(ended) {
		r.Fatalf("Run has returned %v before its context has ended", err)
	}
	cancel()
	r.eventually("Run returns", func() bool { return isClosed(ended) })
	if err != nil {
		r.Errorf("Run: %v", err)
	}
	if r.EmitOnly {
		r.sameText("arrived", textsOf(r.arrivals(10)), names("drained", 10))
		return
	}
	for _, text := range names("drained", 10) {
		r.settledOnce(s, text, driver.Ack)
	}
}

func runTwice(r *rig) {
	p, work := r.anyKernel(r.spy())
	results := make(chan error, 2)
	for range 2 {
		go func() { results <- p.k.Run(r.Context()) }()
	}
	if err := take(r, "the second Run", results); !errors.Is(err, swarm.ErrRunning) {
		r.Errorf("second Run: got %v, want %v", err, swarm.ErrRunning)
	}
	work()
	nothing(r, results, r.moment(), "the first Run has ended with the second")
	if err := p.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	if err := take(r, "the first Run", results); err != nil {
		r.Errorf("first Run: %v", err)
	}
}

func runFails(r *rig) {
	s := r.spy()
	gone := driver.Permanent(errors.New("qtest: the queue does not exist"))
	s.onReceive = func(context.Context) error { return gone }
	k := r.listener(s)
	deq, _ := listen.Typed[note](k)
	k.start()
	r.eventually("Run returns", func() bool { return isClosed(k.ended) })
	if !errors.Is(k.err, gone) || !errors.Is(k.err, driver.ErrPermanent) {
		r.Errorf("Run: got %v, want what the broker said", k.err)
	}
	ends(r, "deq", deq)
}
