package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

type mark struct{ name string }

// markHanded gives the context of messages a value.
func markHanded(name string) swarm.Observer {
	return swarm.Observer{Handed: func(ctx context.Context, e swarm.Envelope) context.Context {
		return context.WithValue(ctx, mark{name}, e.ID)
	}}
}

func TestTheContextOfAMessageHasTheValuesOfObservers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		for i, bag := range notes(3) {
			bag.ID = fmt.Sprint("m", i)
			r.offer(bag)
		}
		q := endpoint(t, r, swarm.WithObserver(markHanded("a")), swarm.WithObserver(markHanded("b")))
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		for range 3 {
			msg := <-deq
			ctx, cancel := context.WithCancel(msg.Context())
			if ctx.Value(mark{"a"}) != msg.ID || ctx.Value(mark{"b"}) != msg.ID {
				t.Errorf("%s: %v, %v", msg.ID, ctx.Value(mark{"a"}), ctx.Value(mark{"b"}))
			}
			ack <- msg
			synctest.Wait()
			if ctx.Err() == nil {
				t.Errorf("%s is settled, a context derived from its own goes on", msg.ID)
			}
			if msg.Context().Value(mark{"a"}) != msg.ID {
				t.Errorf("%s is settled, and its context has lost its values", msg.ID)
			}
			cancel()
		}
		q.Close()
		wait()
	})
}

// A buffer counts as a consumer: what has expired in it has its values, and has ended.
func TestTheContextOfWhatExpiredInABuffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.offer(notes(1)...)
		handed := 0
		q := endpoint(t, r, swarm.WithRecvCapacity(1), swarm.WithTimeToFlight(time.Second), swarm.WithObserver(swarm.Observer{
			Handed: func(ctx context.Context, _ swarm.Envelope) context.Context { handed++; return ctx },
		}))
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		time.Sleep(time.Minute) // the buffer had it
		msg := <-deq
		if msg.Context().Value(mark{"a"}) != nil || handed != 1 || context.Cause(msg.Context()) == nil {
			t.Errorf("handed %d times, %v", handed, context.Cause(msg.Context()))
		}
		ack <- msg
		q.Close()
		wait()
	})
}

func TestAttributesOfObserversTravel(t *testing.T) {
	type caller struct{}
	trace := swarm.Observer{Accepted: func(ctx context.Context, e swarm.Envelope) map[string]string {
		who, _ := ctx.Value(caller{}).(string)
		return map[string]string{"trace": who, "long": strings.Repeat("x", 50)}
	}}
	count := func(bag *driver.Bag) int {
		n := len(bag.Body)
		for name, value := range bag.Attrs {
			n += len(name) + len(value)
		}
		return n
	}
	for name, x := range map[string]struct {
		limits driver.Limits
		want   map[string]string
	}{
		"all":      {driver.Limits{}, map[string]string{"trace": "me", "long": strings.Repeat("x", 50), "by": "broker"}},
		"some":     {driver.Limits{Attrs: []string{"trace"}}, map[string]string{"trace": "me", "by": "broker"}},
		"none":     {driver.Limits{Attrs: []string{}}, map[string]string{"by": "broker"}},
		"too long": {driver.Limits{Bytes: 40, Size: count}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig()
				r.limits = x.limits
				r.limits.Carry = func(ctx context.Context) map[string]string {
					if ctx.Value(caller{}) == nil {
						return nil
					}
					return map[string]string{"by": "broker", "trace": "broker"}
				}
				q := endpoint(t, r, swarm.WithObserver(trace))
				ctx := context.WithValue(t.Context(), caller{}, "me")
				if err := emit.NewTyped[Note](q).Enq(ctx, Note{1}); err != nil {
					t.Fatal(err)
				}
				enq, _ := emit.Typed[Note](q, emit.Context(func(Note) context.Context { return ctx }))
				enq <- Note{2}
				close(enq)
				if err := q.Close(); err != nil {
					t.Fatal(err)
				}
				for _, bag := range r.sent {
					want := maps.Clone(x.want)
					if x.limits.Attrs != nil && len(x.limits.Attrs) == 0 {
						want["trace"] = "broker"
					}
					if !maps.Equal(bag.Attrs, want) {
						t.Errorf("%v, want %v", bag.Attrs, want)
					}
				}
			})
		})
	}
}

// Two hooks may answer the same maps for each value: the kernel writes to neither.
func TestAttributesOfObserversAreNotChanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Attrs = []string{"a", "b", "never"}
		a, b := map[string]string{"a": "1", "other": "1"}, map[string]string{"b": "2"}
		always := func(attrs map[string]string) swarm.Option {
			return swarm.WithObserver(swarm.Observer{Accepted: func(context.Context, swarm.Envelope) map[string]string { return attrs }})
		}
		q := endpoint(t, r, always(a), always(b), swarm.WithEmitWindow(10))
		var senders sync.WaitGroup
		for i := range 10 {
			enq, _ := emit.Typed[Note](q)
			senders.Go(func() {
				defer close(enq)
				enq <- Note{i}
			})
		}
		senders.Wait()
		own := q.NewBag("Note")
		own.Body, own.Attrs = []byte("{}"), map[string]string{"a": "mine"}
		if err := q.Enqueue(t.Context(), &own); err != nil || own.Attrs["a"] != "mine" || own.Attrs["b"] != "2" {
			t.Error("what a bag has is its own:", own.Attrs, err)
		}
		err := q.Close()
		r.sent = slices.DeleteFunc(r.sent, func(bag driver.Bag) bool { return bag.ID == own.ID })
		if err != nil || len(a) != 2 || len(b) != 1 || len(r.sent) != 10 {
			t.Error(err, a, b)
		}
		for _, bag := range r.sent {
			if !maps.Equal(bag.Attrs, map[string]string{"a": "1", "b": "2"}) {
				t.Error(bag.Attrs)
			}
		}
	})
}

// A function of the user that panics, or answers nothing, counts as none.
func TestContextOfAValueMayPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		var seen []context.Context
		q := endpoint(t, r, swarm.WithObserver(swarm.Observer{Accepted: func(ctx context.Context, _ swarm.Envelope) map[string]string {
			seen = append(seen, ctx)
			return nil
		}}))
		enq, _ := emit.Typed[Note](q, emit.Context(func(n Note) context.Context {
			if n.ID == 1 {
				panic("mine")
			}
			return nil
		}))
		enq <- Note{1}
		enq <- Note{2}
		close(enq)
		if err := q.Close(); err != nil || len(r.sent) != 2 || len(seen) != 2 || seen[0] == nil || seen[1] == nil {
			t.Error(err, len(r.sent), seen)
		}
	})
}

// An observer that hangs costs what it observes, and Close ends at its deadline.
func TestAnObserverThatHangs(t *testing.T) {
	hang := func() { select {} }
	for name, o := range map[string]swarm.Observer{
		"Accepted": {Accepted: func(context.Context, swarm.Envelope) map[string]string { hang(); return nil }},
		"Ended":    {Ended: func(swarm.Envelope, error) { hang() }},
		"Received": {Received: func(swarm.Envelope) { hang() }},
		"Handed":   {Handed: func(ctx context.Context, _ swarm.Envelope) context.Context { hang(); return ctx }},
		"Settled":  {Settled: func(context.Context, swarm.Envelope, swarm.Settlement) { hang() }},
		"Request":  {Request: func(context.Context, swarm.Request) (context.Context, func(swarm.Answer)) { hang(); return nil, nil }},
		"Answer": {Request: func(context.Context, swarm.Request) (context.Context, func(swarm.Answer)) {
			return nil, func(swarm.Answer) { hang() }
		}},
		"Closed": {Closed: func(error) { hang() }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			r.offer(notes(3)...)
			q := endpoint(t, r, swarm.WithObserver(o), swarm.WithDrainTimeout(300*time.Millisecond))
			enq, _ := emit.Typed[Note](q)
			deq, ack := listen.Typed[Note](q)
			go work(deq, ack, nil)
			go q.Run(context.Background())
			go func() { enq <- Note{1} }()
			began := time.Now()
			time.AfterFunc(50*time.Millisecond, func() { q.Stats() }) // nor does the ledger hang
			err := q.Close()
			if took := time.Since(began); took > 900*time.Millisecond {
				t.Errorf("Close took %s: %v", took, err)
			}
			if err := q.Stats().Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What one observer makes of an event, another one does not notice.
func TestObserversDoNotNoticeEachOther(t *testing.T) {
	for name, what := range map[string]func(){
		"hangs":  func() { time.Sleep(24 * time.Hour) },
		"panics": func() { panic("mine") },
		"ends":   runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var told []string
				q := endpoint(t, newRig(), swarm.WithDrainTimeout(time.Second), swarm.WithStdErr(make(chan error, 100)),
					swarm.WithObserver(swarm.Observer{Ended: func(swarm.Envelope, error) { what() }}),
					swarm.WithObserver(swarm.Observer{
						Ended:  func(swarm.Envelope, error) { told = append(told, "ended") },
						Closed: func(error) { told = append(told, "closed") },
					}))
				for i := range 3 {
					if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{i}); err != nil {
						t.Error(err)
					}
				}
				_ = q.Close()
				if want := []string{"ended", "ended", "ended", "closed"}; !slices.Equal(told, want) {
					t.Errorf("the other one was told %v, want %v", told, want)
				}
				time.Sleep(100 * time.Hour) // who hangs ends
			})
		})
	}
}

// The events of an observer that does not keep up are bounded, and it is told once that there
// were more.
func TestEventsOfASlowObserverAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const bound = 10_000
		hang, told := make(chan struct{}), 0
		errs := make(chan error, 100)
		q := endpoint(t, newRig(), swarm.WithStdErr(errs), swarm.WithObserver(swarm.Observer{
			Ended: func(swarm.Envelope, error) {
				<-hang
				told++
			},
		}))
		notes := emit.NewTyped[Note](q)
		for i := range bound + 500 {
			if err := notes.Enq(t.Context(), Note{i}); err != nil {
				t.Fatal(err)
			}
		}
		close(hang)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if told < bound || told > bound+10 { // some are in hand
			t.Errorf("told %d of %d", told, bound+500)
		}
		if len(errs) != 1 || !strings.Contains((<-errs).Error(), "too slow") {
			t.Errorf("%d reports", len(errs))
		}
	})
}

// Close has its time, and observers have what is left of it.
func TestCloseWaitsForObservers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended, closed := 0, false
		q := endpoint(t, newRig(), swarm.WithDrainTimeout(30*time.Second), swarm.WithEmitWindow(100), swarm.WithObserver(swarm.Observer{
			Ended: func(swarm.Envelope, error) {
				time.Sleep(20 * time.Millisecond)
				ended++
			},
			Closed: func(error) { closed = true },
		}))
		enq, _ := emit.Typed[Note](q)
		for i := range 50 {
			enq <- Note{i}
		}
		close(enq)
		if err := q.Close(); err != nil || ended != 50 || !closed {
			t.Errorf("%v, told %d of 50, and that it ended: %v", err, ended, closed)
		}
	})
}

// Close waits for no observer that hangs, or calls Close itself.
func TestCloseDoesNotWaitForAnObserverThatHangs(t *testing.T) {
	for name, what := range map[string]func(q *kernel.Endpoint, hang chan struct{}){
		"hangs":      func(_ *kernel.Endpoint, hang chan struct{}) { <-hang },
		"closes":     func(q *kernel.Endpoint, _ chan struct{}) { _ = q.Close() },
		"shuts down": func(q *kernel.Endpoint, _ chan struct{}) { _ = q.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var q *kernel.Endpoint
				hang := make(chan struct{})
				q = endpoint(t, newRig(), swarm.WithDrainTimeout(time.Minute), swarm.WithObserver(swarm.Observer{Ended: func(swarm.Envelope, error) {
					what(q, hang)
				}}))
				if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
					t.Error(err)
				}
				began := time.Now()
				if err := q.Shutdown(context.Background()); err != nil || time.Since(began) > 3*time.Second {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
				close(hang)
			})
		})
	}
}

// An invocation waits for what its observers are told, since the process may be frozen, and
// not longer than a moment: what is left waits for the next one.
func TestAnInvocationWaitsForObservers(t *testing.T) {
	for name, x := range map[string]struct {
		each   time.Duration
		answer time.Duration
		told   int
	}{
		"fast": {each: 100 * time.Millisecond, answer: 500 * time.Millisecond, told: 5},
		"slow": {each: 1500 * time.Millisecond, answer: 2 * time.Second, told: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var told atomic.Int32
				b := newBridge(t, driver.Limits{}, swarm.WithDrainTimeout(time.Hour), swarm.WithObserver(swarm.Observer{
					Settled: func(context.Context, swarm.Envelope, swarm.Settlement) {
						time.Sleep(x.each)
						told.Add(1)
					},
				}))
				deq, ack := listen.Typed[Note](b.q)
				go work(deq, ack, nil)
				b.start()
				ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
				defer cancel()
				began := time.Now()
				if _, err := b.serve(ctx, []driver.Bag{note(1), note(2), note(3), note(4), note(5)}); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != x.answer || int(told.Load()) != x.told {
					t.Errorf("answered after %s, told %d; want %s and %d", took, told.Load(), x.answer, x.told)
				}
				b.close()
				if told.Load() != 5 {
					t.Errorf("told %d at the end", told.Load())
				}
			})
		})
	}
}

// The time limit of a call is the broker's: an observer that takes longer fails nothing.
func TestAnObserverTakesNoTimeFromTheBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.send = func(ctx context.Context, _ []driver.Bag) error {
			if at, ok := ctx.Deadline(); ok || ctx.Value(t) != "of the observer" {
				t.Error("the context of the call:", at, ctx.Value(t))
			}
			return ctx.Err()
		}
		q := endpoint(t, r, swarm.WithNetworkTimeout(time.Second), swarm.WithRetryConstant(time.Second, 1), swarm.WithObserver(swarm.Observer{
			Request: func(ctx context.Context, _ swarm.Request) (context.Context, func(swarm.Answer)) {
				time.Sleep(2 * time.Second)
				return context.WithValue(ctx, t, "of the observer"), func(swarm.Answer) { time.Sleep(2 * time.Second) }
			}}))
		if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Nor is a receive that a slow observer has begun when the kernel ends.
func TestAReceiveThatIsObservedAtTheEndHasNotFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var errs []error
		q := endpoint(t, newRig(), swarm.WithObserver(swarm.Observer{
			Request: func(ctx context.Context, _ swarm.Request) (context.Context, func(swarm.Answer)) {
				time.Sleep(time.Second)
				return ctx, func(a swarm.Answer) { errs = append(errs, a.Err) }
			}}))
		listen.Typed[Note](q)
		wait := start(q)
		time.Sleep(500 * time.Millisecond)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
		if got := q.Stats().Requests[swarm.OpReceive]; got.Calls != 1 || got.Errors != 0 || len(errs) != 1 || errs[0] != nil {
			t.Errorf("receives %+v, %v", got, errs)
		}
	})
}

// To end what a poller waits for is no failure of the broker.
func TestPollersThatAreEndedHaveNotFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Wait = 20 * time.Second
		var answers []error
		q := endpoint(t, r, swarm.WithPollerPool(4), swarm.WithObserver(swarm.Observer{
			Request: func(ctx context.Context, _ swarm.Request) (context.Context, func(swarm.Answer)) {
				return ctx, func(a swarm.Answer) {
					r.mu.Lock()
					defer r.mu.Unlock()
					answers = append(answers, a.Err)
				}
			}}))
		listen.Typed[Note](q)
		wait := start(q)
		time.Sleep(30 * time.Second)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
		if got := q.Stats().Requests[swarm.OpReceive]; got.Calls != 8 || got.Errors != 0 {
			t.Errorf("receives %+v", got)
		}
		if len(answers) != 8 || slices.ContainsFunc(answers, func(err error) bool { return err != nil }) {
			t.Errorf("answers %v", answers)
		}
	})
}

// What an observer is told of attempts: how often a value was sent before, and why again.
func TestAttemptsAreObserved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		busy := errors.New("busy")
		r := newRig()
		calls := 0
		r.send = func(context.Context, []driver.Bag) error {
			if calls++; calls < 3 {
				return busy
			}
			return nil
		}
		var told []string
		q := endpoint(t, r, swarm.WithRetryConstant(time.Second, 5), swarm.WithObserver(swarm.Observer{
			Retried: func(e swarm.Envelope, err error) {
				told = append(told, fmt.Sprint("retried ", e.Attempt, " ", errors.Is(err, busy)))
			},
			Ended: func(e swarm.Envelope, err error) { told = append(told, fmt.Sprint("ended ", e.Attempt, " ", err)) },
		}), swarm.WithObserver(swarm.Observer{Request: func(ctx context.Context, r swarm.Request) (context.Context, func(swarm.Answer)) {
			return ctx, func(a swarm.Answer) {
				if want := []int{0, 1, 2}[calls-1]; r.Messages[0].Attempt != want || (a.Err != nil) != (want < 2) {
					t.Errorf("call %d is attempt %d: %v", calls, r.Messages[0].Attempt, a.Err)
				}
			}
		}}))
		if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if want := []string{"retried 1 true", "retried 2 true", "ended 3 <nil>"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func TestAPanicOfAnObserverIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		stderr := make(chan error, 10)
		q := endpoint(t, r, swarm.WithStdErr(stderr), swarm.WithObserver(swarm.Observer{Ended: func(swarm.Envelope, error) { panic("mine") }}))
		for i := range 3 {
			if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{i}); err != nil {
				t.Error(err)
			}
		}
		q.Close()
		if len(stderr) != 1 || !strings.Contains((<-stderr).Error(), "observer panicked: mine") {
			t.Errorf("%d reports", len(stderr))
		}
	})
}

// A call of the broker gets the context of the observer, and the observer its answer.
func TestRequestsAreObserved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Requests = 1
		hold, first := make(chan struct{}), true // while the first request is out, two values gather
		r.send = func(ctx context.Context, bags []driver.Bag) error {
			if ctx.Value(mark{"send"}) != len(bags) {
				t.Errorf("context has %v", ctx.Value(mark{"send"}))
			}
			if first {
				first = false
				<-hold
				return nil
			}
			return &driver.BatchError{Failed: []driver.Failure{{Index: 1, Err: errors.New("no"), Permanent: true}}}
		}
		var answers []swarm.Answer
		q := endpoint(t, r, swarm.WithLinger(time.Second), swarm.WithEmitWindow(3), swarm.WithObserver(swarm.Observer{
			Request: func(ctx context.Context, r swarm.Request) (context.Context, func(swarm.Answer)) {
				return context.WithValue(ctx, mark{string(r.Operation)}, len(r.Messages)), func(a swarm.Answer) { answers = append(answers, a) }
			},
		}))
		enq, dlq := emit.Typed[Note](q)
		enq <- Note{1}
		synctest.Wait()
		enq <- Note{2}
		enq <- Note{3}
		synctest.Wait()
		close(hold)
		<-dlq
		close(enq)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if len(answers) != 2 || answers[0].Err != nil || !slices.Equal(answers[1].Failed, []int{1}) || answers[1].Err == nil {
			t.Errorf("%+v", answers)
		}
		if s := q.Stats(); s.Requests[swarm.OpSend] != (swarm.RequestStats{Calls: 2, Errors: 1, Entries: 3, Succeeded: 2, Failed: 1}) {
			t.Errorf("%+v", s.Requests)
		}
	})
}

// What was received before is counted, and what the broker has not confirmed yet.
func TestRedeliveriesAndSettlementsOfTheLedger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		for attempt := range 4 { // 0: the broker does not say
			bag := note(attempt)
			bag.Attempt = attempt
			r.offer(bag)
		}
		hold := make(chan struct{})
		r.settle = func(context.Context, []driver.Settlement) error {
			<-hold
			return nil
		}
		q := endpoint(t, r)
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		go work(deq, ack, nil)
		time.Sleep(time.Second)
		if s := q.Stats(); s.Listen["Note"].Redelivered != 2 || s.Settling != 4 {
			t.Errorf("%+v; settling %d", s.Listen["Note"], s.Settling)
		}
		close(hold)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
		if s := q.Stats(); s.Settling != 0 || s.Unconfirmed != 0 {
			t.Errorf("settling %d, not confirmed %d", s.Settling, s.Unconfirmed)
		}
	})
}

// The ages in the ledger are those of what is in flight.
func TestAgesOfTheLedger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		hang := make(chan struct{})
		r.send = func(ctx context.Context, _ []driver.Bag) error {
			select {
			case <-hang:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		bag := note(1)
		bag.SentAt = time.Now().Add(-time.Hour)
		r.offer(bag)
		q := endpoint(t, r, swarm.WithNetworkTimeout(time.Hour))
		enq, _ := emit.Typed[Note](q)
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		enq <- Note{1}
		msg := <-deq
		time.Sleep(10 * time.Second)
		s := q.Stats()
		if c := s.Emit["Note"]; c.InFlight != 1 || c.Oldest != 10*time.Second {
			t.Errorf("%+v", c)
		}
		if c := s.Listen["Note"]; c.Working != 1 || c.Oldest != time.Hour+10*time.Second || c.Longest != 10*time.Second {
			t.Errorf("%+v", c)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		ack <- msg
		close(hang)
		close(enq)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
		if s := q.Stats(); s.Emit["Note"].Confirmed != 1 || s.Listen["Note"].Acked != 1 || s.Emit["Note"].Oldest+s.Listen["Note"].Oldest != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// What senders make up as categories is not counted by name.
func TestCategoriesNobodyListensToAreCountedTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		var seen []string
		q := endpoint(t, r, swarm.WithUnknownCategory(swarm.UnknownAck), swarm.WithObserver(swarm.Observer{
			Received: func(e swarm.Envelope) { seen = append(seen, e.Category) },
		}))
		deq, ack := listen.Typed[Note](q)
		go work(deq, ack, nil)
		for i := range 100 {
			r.offer(driver.Bag{Category: fmt.Sprint("made up ", i), Body: []byte("{}")})
		}
		wait := start(q)
		time.Sleep(time.Minute)
		if s := q.Stats(); len(s.Listen) != 2 || s.Listen[""].Acked != 100 {
			t.Errorf("%+v", s.Listen)
		}
		q.Close()
		wait()
		for _, category := range seen {
			if category != "" {
				t.Fatal("observers are told", category)
			}
		}
	})
}

// At the end all that the ledger has is at rest, also what was never sent.
func TestTheLedgerAfterACutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.send = func(ctx context.Context, _ []driver.Bag) error { <-ctx.Done(); return ctx.Err() }
		w := newWitness(false)
		q := endpoint(t, r, swarm.WithEmitCapacity(5), swarm.WithEmitWindow(2), swarm.WithDrainTimeout(time.Second),
			swarm.WithNetworkTimeout(time.Hour), swarm.WithObserver(w.observer()))
		w.watch(q.Stats)
		left := 0
		enq, dlq := emit.Typed[Note](q, emit.OnFailure(func(_ Note, err error) {
			if errors.Is(err, swarm.ErrUndelivered) {
				left++
			}
		}))
		for i := range 7 {
			enq <- Note{i}
		}
		go emit.NewTyped[Note](q, emit.Category("sync")).Enq(t.Context(), Note{8})
		synctest.Wait()
		err := q.Close()
		for range dlq {
		}
		enq <- Note{9} // too late
		close(enq)
		synctest.Wait()
		s := q.Stats()
		if c := s.Emit["Note"]; c.Accepted != 7 || c.Undelivered != 7 || c.Refused != 1 || left != 7 {
			t.Errorf("%+v, %d told", c, left)
		}
		if c := s.Emit["sync"]; c.Accepted != 1 || c.Failed != 1 {
			t.Errorf("%+v", c)
		}
		for _, fault := range w.reconcile(s, err) {
			t.Error(fault)
		}
	})
}

// Each way to end is an outcome.
func TestOutcomes(t *testing.T) {
	settledAs := func(t *testing.T, limits driver.Limits, bags []driver.Bag, consume func(swarm.Msg[Note]) *swarm.Msg[Note], opts ...swarm.Option) (got []string) {
		r := newRig()
		r.limits = limits
		r.limits.Entries, r.limits.Wait = 10, 20*time.Second
		r.offer(bags...)
		opts = append(opts, swarm.WithDrainTimeout(time.Second), swarm.WithObserver(swarm.Observer{
			Settled: func(_ context.Context, e swarm.Envelope, s swarm.Settlement) { got = append(got, s.Outcome.String()) },
		}))
		q := endpoint(t, r, opts...)
		deq, ack := listen.Typed[Note](q)
		wait := start(q)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for msg := range deq {
				if back := consume(msg); back != nil {
					ack <- *back
				}
			}
		}()
		time.Sleep(5 * time.Second)
		q.Close()
		wait()
		<-ended
		return got
	}
	back := func(msg swarm.Msg[Note]) *swarm.Msg[Note] { return &msg }
	fail := func(msg swarm.Msg[Note]) *swarm.Msg[Note] { msg = msg.Fail(nil); return &msg }
	late := func(msg swarm.Msg[Note]) *swarm.Msg[Note] { time.Sleep(time.Hour); return &msg }
	leased := note(1)
	leased.Lease = time.Date(2000, 1, 1, 0, 0, 2, 0, time.UTC) // of the bubble: two seconds
	ordered := []driver.Bag{note(1), note(2)}
	for i := range ordered {
		ordered[i].Group = "g"
	}
	for _, x := range []struct {
		outcomes []swarm.Outcome
		limits   driver.Limits
		bags     []driver.Bag
		consume  func(swarm.Msg[Note]) *swarm.Msg[Note]
		opts     []swarm.Option
	}{
		{[]swarm.Outcome{swarm.OutcomeAcked}, driver.Limits{}, notes(1), back, nil},
		{[]swarm.Outcome{swarm.OutcomeFailed}, driver.Limits{}, notes(1), fail, nil},
		{[]swarm.Outcome{swarm.OutcomeRejected}, driver.Limits{}, []driver.Bag{{Category: "Note", Body: []byte("poison")}}, back, nil},
		{[]swarm.Outcome{swarm.OutcomeRejected}, driver.Limits{}, []driver.Bag{user("nobody")}, back, nil},
		{[]swarm.Outcome{swarm.OutcomeExpired}, driver.Limits{}, notes(1), late, []swarm.Option{swarm.WithTimeToFlight(time.Second)}},
		{[]swarm.Outcome{swarm.OutcomeFailed, swarm.OutcomeReleased}, driver.Limits{Ordered: true}, ordered, fail, nil},
		{[]swarm.Outcome{swarm.OutcomeLeaseLost}, driver.Limits{}, []driver.Bag{leased}, late, nil},
	} {
		t.Run(fmt.Sprint(x.outcomes), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var want []string
				for _, o := range x.outcomes {
					want = append(want, o.String())
				}
				got := settledAs(t, x.limits, x.bags, x.consume, x.opts...)
				slices.Sort(got)
				if got = slices.Compact(got); !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
	if s := swarm.Outcome(0).String(); s != "outcome(0)" || swarm.OutcomeLost.String() != "lost" {
		t.Error(s)
	}
}

func TestObserversAreChecked(t *testing.T) {
	_, err := kernel.NewEndpoint(newRig(), swarm.WithObserver(swarm.Observer{}))
	if err == nil || !strings.Contains(err.Error(), "WithObserver: observer has no hook") {
		t.Error(err)
	}
	broken := swarm.Stats{
		Emit:     map[string]swarm.EmitStats{"a": {Accepted: 2, Confirmed: 1}},
		Listen:   map[string]swarm.ListenStats{"b": {Received: 1, Waiting: 2, Working: -1}},
		Requests: map[swarm.Operation]swarm.RequestStats{swarm.OpSend: {Entries: 1}},
	}
	for _, name := range []string{`emit "a"`, `listen "b"`, `operation "send"`} {
		if err := broken.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Error(name, err)
		}
	}
}
