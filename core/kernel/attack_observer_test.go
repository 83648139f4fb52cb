package kernel_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// What a review with a fresh eye has found about observers and the ledger.

// closes reports whether Close ends in time.
func closes(q swarm.Kernel, in time.Duration) (error, bool) {
	done := make(chan error, 1)
	go func() { done <- q.Close() }()
	select {
	case err := <-done:
		return err, true
	case <-time.After(in):
		return nil, false
	}
}

func TestCloseEndsAlthoughSettledHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := make(chan struct{})
		r := newRig()
		r.offer(notes(1)...)
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second), swarm.WithObserver(swarm.Observer{
			Settled: func(context.Context, swarm.Envelope, swarm.Settlement) { <-hang },
		}))
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		msg := <-deq // and keeps it
		if err, ok := closes(q, time.Hour); !ok {
			t.Error("Close has not ended in an hour")
		} else if x, _ := errors.AsType[*swarm.DrainError](err); x == nil || x.Unsettled != 1 {
			t.Error(err)
		}
		close(hang)
		ack <- msg
		wait()
	})
}

func TestCloseFromSettled(t *testing.T) {
	r := newRig()
	r.offer(notes(1)...)
	var q swarm.Kernel
	e := endpoint(t, r, swarm.WithDrainTimeout(100*time.Millisecond), swarm.WithObserver(swarm.Observer{
		Settled: func(context.Context, swarm.Envelope, swarm.Settlement) { q.Close() },
	}))
	q = e
	deq, _ := listen.Typed[Note](e)
	go q.Run(context.Background())
	<-deq
	if _, ok := closes(q, 3*time.Second); !ok {
		t.Error("Close has not ended")
	}
}

func TestAnObserverHoldsUpNoSettlement(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.offer(notes(1)...)
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second), swarm.WithObserver(swarm.Observer{
			Settled: func(context.Context, swarm.Envelope, swarm.Settlement) { time.Sleep(time.Minute) },
		}))
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		ack <- <-deq
		synctest.Wait()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if _, n := r.outcome("m1"); n != 1 {
			t.Errorf("the broker was told %d times: %+v", n, q.Stats())
		}
		time.Sleep(time.Hour)
		wait()
	})
}

func TestAnObserverOfOneCategoryHoldsUpAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := make(chan struct{})
		r := newRig()
		r.offer(note(1), user("a"))
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second), swarm.WithTimeToFlight(5*time.Second), swarm.WithObserver(swarm.Observer{
			Settled: func(_ context.Context, e swarm.Envelope, _ swarm.Settlement) {
				if e.Category == "Note" {
					<-hang
				}
			},
		}))
		notes, nack := listen.Typed[Note](q)
		users, uack := listen.Typed[User](q)
		wait := start(q)
		n, u := <-notes, <-users
		time.Sleep(time.Hour)
		if u.Context().Err() == nil {
			t.Error("the message of the other category has not expired in an hour")
		}
		close(hang)
		q.Close()
		nack <- n
		uack <- u
		wait()
	})
}

func TestRetriedHangsAnotherCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := make(chan struct{})
		r := newRig()
		first := true
		gate := make(chan struct{})
		r.send = func(ctx context.Context, bags []driver.Bag) error {
			if len(bags) == 1 && first {
				first = false
				<-gate // the two others gather meanwhile
				return nil
			}
			for i, b := range bags {
				if b.Category == "bad" {
					return &driver.BatchError{Failed: []driver.Failure{{Index: i, Err: errors.New("busy")}}}
				}
			}
			return nil
		}
		q := endpoint(t, r, swarm.WithLinger(time.Hour), swarm.WithRetryConstant(time.Second, 3), swarm.WithDrainTimeout(time.Second),
			swarm.WithObserver(swarm.Observer{Retried: func(swarm.Envelope, error) { <-hang }}))
		enq := func(category string) <-chan error {
			c := make(chan error, 1)
			go func() { c <- emit.NewTyped[Note](q, emit.Category(category)).Enq(context.Background(), Note{1}) }()
			synctest.Wait()
			return c
		}
		zero, bad, good := enq("zero"), enq("bad"), enq("good")
		close(gate)
		<-zero
		time.Sleep(time.Hour)
		err, ok := closes(q, time.Hour)
		select {
		case err := <-good:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Hour):
			t.Errorf("Close has ended (%v, %v), Enq of another category has not: %+v", ok, err, q.Stats().Emit["good"])
		}
		close(hang)
		<-bad
	})
}

func TestRetriedComesBeforeEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		n := 0
		r.send = func(ctx context.Context, bags []driver.Bag) error {
			if n++; n == 1 {
				return errors.New("busy")
			}
			return nil
		}
		var told []string
		q := endpoint(t, r, swarm.WithRetryConstant(10*time.Millisecond, 3), swarm.WithLinger(0), swarm.WithObserver(swarm.Observer{
			Retried: func(swarm.Envelope, error) { time.Sleep(100 * time.Millisecond); told = append(told, "retried") },
			Ended:   func(swarm.Envelope, error) { told = append(told, "ended") },
		}))
		if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		q.Close()
		if len(told) != 2 || told[0] != "retried" {
			t.Error(told)
		}
	})
}

func TestAnInvocationAnswersAlthoughSettledHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := make(chan struct{})
		b := newBridge(t, driver.Limits{}, swarm.WithObserver(swarm.Observer{
			Settled: func(_ context.Context, e swarm.Envelope, _ swarm.Settlement) {
				if e.Category == "Note" {
					<-hang
				}
			},
		}))
		notes, ack := listen.Typed[Note](b.q)
		users, uack := listen.Typed[User](b.q)
		go work(notes, ack, nil)
		go work(users, uack, nil)
		b.start()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done := make(chan bool, 1)
		go func() {
			b.serve(ctx, []driver.Bag{note(1), user("a")})
			done <- ctx.Err() == nil
		}()
		select {
		case in := <-done:
			if !in {
				t.Error("answered after the deadline")
			}
		case <-time.After(time.Hour):
			t.Error("no answer in an hour; the invocation had 10 seconds")
		}
		close(hang)
		synctest.Wait()
		b.close()
	})
}

type unencodable struct{ F func() }

func TestNothingIsAcceptedAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []string
		q := endpoint(t, newRig(), swarm.WithObserver(swarm.Observer{
			Accepted: func(context.Context, swarm.Envelope) map[string]string { told = append(told, "accepted"); return nil },
			Ended:    func(swarm.Envelope, error) { told = append(told, "ended") },
			Closed:   func(error) { told = append(told, "closed") },
		}))
		q.Close()
		err := emit.NewTyped[unencodable](q).Enq(t.Context(), unencodable{func() {}})
		if s := q.Stats().Emit["unencodable"]; !errors.Is(err, swarm.ErrClosed) || s.Accepted != 0 || s.Refused != 1 || len(told) != 1 {
			t.Errorf("%v; %+v; %v", err, s, told)
		}
	})
}

func TestNoHookAfterClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.offer(notes(1)...)
		var mu sync.Mutex
		var told []string
		tell := func(what string) { mu.Lock(); told = append(told, what); mu.Unlock() }
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second), swarm.WithObserver(swarm.Observer{
			Ignored:  func(string, error) { tell("ignored") },
			Closed:   func(error) { tell("closed") },
			Accepted: func(context.Context, swarm.Envelope) map[string]string { time.Sleep(5 * time.Second); return nil },
			Ended:    func(swarm.Envelope, error) { tell("ended") },
		}))
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		msg := <-deq
		go emit.NewTyped[Note](q).Enq(context.Background(), Note{1})
		synctest.Wait()
		err := q.Close()
		s := q.Stats().Emit["Note"]
		ack <- msg
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if told[len(told)-1] != "closed" {
			t.Errorf("%v; %v; right after Close %+v", told, err, s)
		}
		wait()
	})
}

func TestAGroupThatWasHeldForTheCatchAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Ordered = true
		for _, b := range notes(2) {
			b.Group = "g"
			r.offer(b)
		}
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second))
		all, allAck := listen.Unknown(q)
		wait := start(q)
		first := <-all
		_, _ = listen.Typed[Note](q) // bound meanwhile: for what comes from now on
		allAck <- first
		second := <-all
		synctest.Wait()
		if err := q.Stats().Check(); err != nil {
			t.Errorf("%v: %+v", err, q.Stats().Listen)
		}
		allAck <- second
		synctest.Wait()
		if s := q.Stats().Listen; s[""].Acked+s["Note"].Acked != 2 {
			t.Errorf("%+v", s)
		}
		_ = q.Close()
		wait()
	})
}

func TestAtMostOnceARefusedAcknowledgementIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.settle = func(context.Context, []driver.Settlement) error { return driver.Permanent(errors.New("no")) }
		r.offer(notes(1)...)
		q := endpoint(t, r, swarm.WithPolicyAtMostOnce(10))
		deq, ack := listen.Typed[Note](q)
		go work(deq, ack, nil)
		wait := start(q)
		time.Sleep(time.Minute)
		if s := q.Stats(); s.Unconfirmed != 1 || s.Listen["Note"].Received != 1 {
			t.Errorf("unconfirmed %d, %+v, %+v", s.Unconfirmed, s.Listen, s.Requests)
		}
		_ = q.Close()
		wait()
	})
}

func TestGoroutines(t *testing.T) {
	for name, opts := range map[string][]swarm.Option{
		"without": nil,
		"with":    {swarm.WithObserver(swarm.Observer{Handed: func(ctx context.Context, _ swarm.Envelope) context.Context { return context.WithoutCancel(ctx) }})},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.offer(notes(500)...)
			q := endpoint(t, r, append(opts, swarm.WithPolicyAtMostOnce(10))...)
			deq, ack := listen.Typed[Note](q)
			wait := start(q)
			before := runtime.NumGoroutine()
			for range 500 {
				msg := <-deq
				msg.Context().Done()
				ack <- msg
			}
			synctest.Wait()
			if more := runtime.NumGoroutine() - before; more > 50 {
				t.Errorf("%s: %d goroutines more", name, more)
			}
			q.Close()
			wait()
			time.Sleep(2 * time.Minute)
		})
	}
}

func TestOldestOfNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		hang := make(chan struct{})
		r.send = func(ctx context.Context, _ []driver.Bag) error { <-hang; return nil }
		q := endpoint(t, r, swarm.WithNetworkTimeout(time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		emit.NewTyped[Note](q).Enq(ctx, Note{1})
		time.Sleep(time.Minute)
		if c := q.Stats().Emit["Note"]; c.InFlight == 0 && c.Oldest != 0 {
			t.Errorf("%+v", c)
		}
		close(hang)
		q.Close()
	})
}

func TestCarryPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Carry = func(ctx context.Context) map[string]string { ctx.Value("x-amzn-trace-id"); return nil }
		q := endpoint(t, r)
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v", p)
			}
			q.Close()
		}()
		// By emit.Context the same panic is one of the goroutine of the lane: it ends the process.
		if err := emit.NewTyped[Note](q).Enq(valuesPanic{t.Context()}, Note{1}); err != nil {
			t.Error(err)
		}
	})
}

type valuesPanic struct{ context.Context }

func (valuesPanic) Value(key any) any {
	if _, ok := key.(string); ok {
		panic("mine")
	}
	return nil
}

func TestUnansweredAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := make(chan struct{})
		r := newRig()
		bag := note(1)
		bag.Lease = time.Now().Add(10 * time.Second)
		r.offer(bag)
		q := endpoint(t, extending{r, func(context.Context, []*driver.Bag, time.Duration) error { <-hang; return nil }}, swarm.WithDrainTimeout(time.Second))
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		msg := <-deq
		time.Sleep(6 * time.Second)
		ack <- msg
		synctest.Wait()
		err := q.Close()
		x, _ := errors.AsType[*swarm.DrainError](err)
		if s := q.Stats(); x == nil || int64(x.Unconfirmed) != s.Unconfirmed || s.Settling != 0 {
			t.Errorf("%v; Settling %d, Unconfirmed %d", err, s.Settling, s.Unconfirmed)
		}
		close(hang)
		wait()
	})
}

func TestEnqFromRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Requests = 1
		n := 0
		r.send = func(context.Context, []driver.Bag) error {
			if n++; n == 1 {
				return errors.New("busy")
			}
			return nil
		}
		var other func() error
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second), swarm.WithObserver(swarm.Observer{Retried: func(swarm.Envelope, error) { other() }}))
		audit := emit.NewTyped[User](q)
		other = func() error { return audit.Enq(context.Background(), User{"retried"}) }
		done := make(chan error, 1)
		go func() { done <- emit.NewTyped[Note](q).Enq(context.Background(), Note{1}) }()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Hour):
			t.Error("deadlock")
		}
		q.Close()
	})
}

func TestAValueHeldByAnObserverIsReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := make(chan struct{})
		r := newRig()
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second), swarm.WithObserver(swarm.Observer{
			Accepted: func(context.Context, swarm.Envelope) map[string]string { <-hang; return nil },
		}))
		enq, _ := emit.Typed[Note](q)
		enq <- Note{1}
		synctest.Wait()
		if err := q.Close(); err == nil {
			t.Errorf("Close returned nil: %+v", q.Stats().Emit["Note"])
		}
		close(hang)
		close(enq)
	})
}

func causesOfMany(t *testing.T, opts ...swarm.Option) (bad int, which error) {
	for range 5 {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{}, opts...)
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			c := b.later(time.Second, notes(50)...)
			var hands []swarm.Msg[Note]
			for range 50 {
				msg := <-deq
				msg.Context().Done()
				hands = append(hands, msg)
			}
			<-c
			for _, msg := range hands {
				if cause := context.Cause(msg.Context()); cause != swarm.ErrTimeToFlight {
					bad++
					which = cause
				}
				ack <- msg
			}
			b.q.Close()
			b.emit.Close()
		})
	}
	return bad, which
}

func TestCauseOfMany(t *testing.T) {
	if n, err := causesOfMany(t); n > 0 {
		t.Errorf("without: %d, %v", n, err)
	}
	o := swarm.WithObserver(swarm.Observer{Settled: func(context.Context, swarm.Envelope, swarm.Settlement) {}})
	if n, err := causesOfMany(t, o); n > 0 {
		t.Errorf("settled only: %d, %v", n, err)
	}
	o = swarm.WithObserver(swarm.Observer{Handed: func(ctx context.Context, _ swarm.Envelope) context.Context { return context.WithoutCancel(ctx) },
		Settled: func(context.Context, swarm.Envelope, swarm.Settlement) { time.Sleep(time.Microsecond) }})
	if n, err := causesOfMany(t, o); n > 0 {
		t.Errorf("with an observer: %d of 250 have another cause: %v", n, err)
	}
	o = swarm.WithObserver(swarm.Observer{Handed: func(ctx context.Context, _ swarm.Envelope) context.Context {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(errors.New("the observer's own"))
		return ctx
	}, Settled: func(context.Context, swarm.Envelope, swarm.Settlement) { time.Sleep(time.Microsecond) }})
	if n, err := causesOfMany(t, o); n > 0 {
		t.Errorf("with an observer whose context ends: %d of 250 have another cause: %v", n, err)
	}
}

func TestRetriedIsFollowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.send = func(context.Context, []driver.Bag) error { return errors.New("busy") }
		q := endpoint(t, r, swarm.WithRetryConstant(time.Hour, 3), swarm.WithDrainTimeout(time.Second))
		go emit.NewTyped[Note](q).Enq(context.Background(), Note{1})
		synctest.Wait()
		q.Close()
		synctest.Wait()
		if s := q.Stats(); s.Emit["Note"].Retried != s.Requests[swarm.OpSend].Entries-1 {
			t.Errorf("%+v %+v", s.Emit, s.Requests[swarm.OpSend])
		}
	})
}

func TestDefaultCategory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.offer(driver.Bag{Body: []byte("{}")})
		var received, answered []string
		q := endpoint(t, r, swarm.WithDefaultCategory("Note"), swarm.WithObserver(swarm.Observer{
			Received: func(e swarm.Envelope) { received = append(received, e.Category) },
			Request: func(ctx context.Context, r swarm.Request) (context.Context, func(swarm.Answer)) {
				return nil, func(a swarm.Answer) {
					for _, e := range a.Received {
						answered = append(answered, e.Category)
					}
				}
			},
		}))
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		ack <- <-deq
		q.Close()
		wait()
		if len(answered) != 1 || answered[0] != received[0] {
			t.Errorf("%q %q", received, answered)
		}
	})
}

// Nobody hangs here.
func TestEndedAfterClosed(t *testing.T) {
	bad, inflight := 0, 0
	for range 300 {
		r := newRig()
		r.send = func(ctx context.Context, _ []driver.Bag) error { <-ctx.Done(); return ctx.Err() }
		var mu sync.Mutex
		var told []string
		tell := func(s string) { mu.Lock(); told = append(told, s); mu.Unlock() }
		accepted := make(chan struct{}, 100)
		q := endpoint(t, r, swarm.WithDrainTimeout(2*time.Millisecond), swarm.WithObserver(swarm.Observer{
			Accepted: func(context.Context, swarm.Envelope) map[string]string { accepted <- struct{}{}; return nil },
			Ended:    func(swarm.Envelope, error) { tell("ended") },
			Closed:   func(error) { tell("closed") },
		}))
		var all sync.WaitGroup
		out := emit.NewTyped[Note](q)
		for range 50 {
			all.Go(func() { out.Enq(context.Background(), Note{1}) })
		}
		for range 50 {
			<-accepted
		}
		q.Close()
		if q.Stats().Emit["Note"].InFlight > 0 {
			inflight++
		}
		all.Wait()
		if told[len(told)-1] != "closed" {
			bad++
		}
	}
	if bad+inflight > 0 {
		t.Errorf("Ended after Closed in %d of 300; in flight after Close in %d", bad, inflight)
	}
}

func TestRequestContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.send = func(ctx context.Context, _ []driver.Bag) error {
			select {
			case <-ctx.Done():
			case <-time.After(24 * time.Hour):
			}
			return ctx.Err()
		}
		q := endpoint(t, r, swarm.WithNetworkTimeout(time.Second), swarm.WithRetryConstant(time.Millisecond, 1), swarm.WithDrainTimeout(time.Second), swarm.WithObserver(swarm.Observer{
			Request: func(ctx context.Context, _ swarm.Request) (context.Context, func(swarm.Answer)) {
				return context.WithoutCancel(ctx), nil
			},
		}))
		began := time.Now()
		err := emit.NewTyped[Note](q).Enq(context.Background(), Note{1})
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the call took %s, NetworkTimeout is a second: %v", took, err)
		}
		q.Close()
	})
}

// Real time: who waits for a mutex does not count as blocked in a bubble.
func TestCloseEndsAlthoughHandedHangs(t *testing.T) {
	hang := make(chan struct{})
	r := newRig()
	r.offer(notes(1)...)
	q := endpoint(t, r, swarm.WithDrainTimeout(100*time.Millisecond), swarm.WithObserver(swarm.Observer{
		Handed: func(ctx context.Context, _ swarm.Envelope) context.Context { <-hang; return ctx },
	}))
	deq, _ := listen.Typed[Note](q)
	go q.Run(context.Background())
	<-deq
	if _, ok := closes(q, 3*time.Second); !ok {
		t.Error("Close has not ended")
	}
	close(hang)
}

func TestAnInvocationAnswersAlthoughHandedHangs(t *testing.T) {
	hang := make(chan struct{})
	b := newBridge(t, driver.Limits{}, swarm.WithObserver(swarm.Observer{
		Handed: func(ctx context.Context, _ swarm.Envelope) context.Context { <-hang; return ctx },
	}))
	deq, ack := listen.Typed[Note](b.q)
	b.start()
	go work(deq, ack, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	done := make(chan bool, 1)
	go func() { b.serve(ctx, []driver.Bag{note(1)}); done <- true }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("no answer in 5 seconds; the invocation had one")
	}
	close(hang)
}
