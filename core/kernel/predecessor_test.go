// Faults of the predecessor, by their ids: what the other tests look at in part only.
package kernel_test

import (
	"context"
	"errors"
	"fmt"
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

// PtrMeta embeds the metadata by a pointer: it satisfies the constraint.
type PtrMeta struct {
	*swarm.Meta
	About string `json:"about,omitempty"`
}

// EM14, EM15: the sender's metadata is not changed, and one without any is filled. By a
// pointer neither could be.
func TestMetaEmbeddedByPointer(t *testing.T) {
	type event = swarm.Event[PtrMeta, User]
	bubble(t, func(t *testing.T) {
		q := endpoint(t, newRig())
		defer q.Close()
		for name, wire := range map[string]func(){
			"emit":   func() { emit.NewEvent[event](q) },
			"listen": func() { listen.Event[event](q) },
		} {
			func() {
				defer func() {
					if p := fmt.Sprint(recover()); !strings.Contains(p, "PtrMeta embeds swarm.Meta by a pointer") {
						t.Errorf("%s: %s", name, p)
					}
				}()
				wire()
			}()
		}
	})
}

// EM20, EM21: a channel that hangs in code of the user fails the invocation that has emitted
// on it, not those that come later and emit nothing.
func TestEM21_AHungLaneFailsNoOtherInvocation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{})
		hang := make(chan struct{})
		b.out.send = func(context.Context, []driver.Bag) error { return driver.Permanent(errors.New("boom")) }
		deq, ack := listen.Typed[Note](b.q)
		enq, _ := emit.Typed[Note](b.emit, emit.OnFailure(func(Note, error) { <-hang }))
		go work(deq, ack, func(msg swarm.Msg[Note]) {
			if msg.Object.ID == 1 {
				enq <- msg.Object
			}
		})
		b.start()
		if a := b.invoke(10*time.Second, note(1)); a.err == nil {
			t.Errorf("first: %+v", a)
		}
		for i := range 3 {
			if a := b.invoke(10*time.Second, note(2)); a.err != nil || a.took > time.Second {
				t.Errorf("invocation %d, which emits nothing: %v after %s", i+2, a.err, a.took)
			}
		}
		close(hang)
		close(enq)
		b.close()
	})
}

// CL8: with a dead letter that nobody reads Close and Run return in time, and count what
// is left.
func TestCL8_CloseAndRunReturn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.send = func(_ context.Context, bags []driver.Bag) error {
			for i := range bags {
				if string(bags[i].Body) == `{"id":0}` {
					return &driver.BatchError{Failed: []driver.Failure{{Index: i, Err: errors.New("refused"), Permanent: true}}}
				}
			}
			return nil
		}
		q := endpoint(t, r, swarm.WithDrainTimeout(2*time.Second), swarm.WithEmitWindow(10))
		listen.Typed[User](q)
		wait := start(q)
		enq, _ := emit.Typed[Note](q)
		for i := range 10 {
			enq <- Note{i}
		}
		synctest.Wait()
		began := time.Now()
		err := q.Close()
		if took := time.Since(began); took > 2200*time.Millisecond {
			t.Errorf("Close took %s", took)
		}
		if left := drainError(err); left.Undelivered != 1 {
			t.Errorf("got %v, want 1 undelivered", err)
		}
		if again := wait(); again != err {
			t.Errorf("Run: %v", again)
		}
		if len(r.sent) != 9 {
			t.Errorf("sent %d of the other 9", len(r.sent))
		}
		close(enq)
	})
}

// CL9: an emitter goes on although StdErr is not read, for more errors than the queue takes;
// what overflows is counted.
func TestCL9_EmitterUnreadStdErr(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const total = 1500
		r := newRig()
		r.send = func(_ context.Context, bags []driver.Bag) error { return driver.Permanent(errors.New("refused")) }
		stderr := make(chan error)
		q := endpoint(t, r, swarm.WithStdErr(stderr), swarm.WithDrainTimeout(time.Second))
		enq, dlq := emit.Typed[Note](q)
		var dead atomic.Int64
		go func() {
			for range dlq {
				dead.Add(1)
			}
		}()
		began := time.Now()
		for i := range total {
			enq <- Note{i}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("took %s", took)
		}
		close(enq)
		synctest.Wait()
		if dead.Load() != total {
			t.Errorf("%d dead letters", dead.Load())
		}
		// Somebody reads after all.
		seen, overflow := 0, 0
		for {
			synctest.Wait()
			select {
			case err := <-stderr:
				if _, ok := errors.AsType[*swarm.EmitError](err); ok {
					seen++
				} else if _, err := fmt.Sscanf(err.Error(), "swarm: StdErr was not read, %d errors", &overflow); err != nil {
					t.Error(err)
				}
				continue
			default:
			}
			break
		}
		if seen+overflow != total || overflow == 0 {
			t.Errorf("%d errors came, %d are said to be in the log, want %d", seen, overflow, total)
		}
		began = time.Now()
		if err := q.Close(); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// CL10: a slow reader of StdErr does not slow messages down.
func TestCL10_SlowStdErr(t *testing.T) {
	took := map[bool]time.Duration{}
	for _, slow := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.settle = func(_ context.Context, s []driver.Settlement) error { return nil }
			stderr, done := make(chan error), make(chan struct{})
			go func() {
				for {
					select {
					case <-stderr:
					case <-done:
						return
					}
					if slow {
						time.Sleep(200 * time.Millisecond)
					}
				}
			}()
			q := endpoint(t, r, swarm.WithStdErr(stderr))
			deq, ack := listen.Typed[Note](q)
			enq, dlq := emit.Typed[Note](q)
			r.send = func(_ context.Context, bags []driver.Bag) error { return driver.Permanent(errors.New("no")) }
			go func() {
				for range dlq {
				}
			}()
			for i := range 200 {
				r.offer(note(i), user("nobody listens"))
			}
			start(q)
			began := time.Now()
			for range 200 {
				msg := <-deq
				ack <- msg
				ack <- msg // an error for StdErr
				enq <- Note{1}
			}
			took[slow] = time.Since(began)
			close(enq)
			q.Close()
			close(done)
			time.Sleep(time.Second) // its reader ends
		})
	}
	t.Logf("%v", took)
	if took[true] > took[false]+time.Second {
		t.Errorf("%s with a slow reader, %s without", took[true], took[false])
	}
}

// CL7, of the ack side: settlements that fail do not hold Close up, and are counted.
func TestCL7_SettlementsThatFail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.settle = func(context.Context, []driver.Settlement) error { return errors.New("down") }
		q := endpoint(t, r, swarm.WithRetryConstant(time.Second, 1000), swarm.WithDrainTimeout(300*time.Millisecond))
		deq, ack := listen.Typed[Note](q)
		r.offer(notes(4)...)
		start(q)
		for range 4 {
			ack <- <-deq
		}
		began := time.Now()
		err := q.Close()
		if took := time.Since(began); took > 400*time.Millisecond {
			t.Errorf("Close took %s", took)
		}
		if left := drainError(err); left.Unconfirmed != 4 {
			t.Errorf("got %v, want 4 unconfirmed", err)
		}
	})
}

// CL7, of synchronous callers: they get an answer at the deadline.
func TestCL7_SyncCallers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.send = func(context.Context, []driver.Bag) error { return errors.New("down") }
		q := endpoint(t, r, swarm.WithRetryConstant(time.Hour, 1000), swarm.WithDrainTimeout(300*time.Millisecond))
		got := make(chan error, 1)
		go func() { got <- emit.NewTyped[Note](q).Enq(context.Background(), Note{1}) }()
		synctest.Wait()
		began := time.Now()
		_ = q.Close()
		if took := time.Since(began); took > 400*time.Millisecond {
			t.Errorf("Close took %s", took)
		}
		synctest.Wait()
		select {
		case err := <-got:
			if !errors.Is(err, swarm.ErrUndelivered) {
				t.Errorf("got %v", err)
			}
		default:
			t.Error("the caller still waits")
		}
	})
}

// LB1: batches of several types, thousands of invocations, several at once.
func TestLB1_MixedTypes(t *testing.T) {
	type Order struct{ N int }
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{})
		n, an := listen.Typed[Note](b.q)
		u, au := listen.Typed[User](b.q)
		o, ao := listen.Typed[Order](b.q)
		for range 3 {
			go work(n, an, nil)
			go work(u, au, nil)
			go func() {
				for msg := range o {
					ao <- msg.Fail(errors.New("no"))
				}
			}()
		}
		b.start()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 500 {
					var bags []driver.Bag
					for i := range 10 {
						switch i % 3 {
						case 0:
							bags = append(bags, note(i))
						case 1:
							bags = append(bags, user("x"))
						default:
							bags = append(bags, driver.Bag{Category: "Order", Body: []byte(`{"N":1}`)})
						}
					}
					if a := b.invoke(time.Minute, bags...); a.err != nil || a.count(driver.Ack) != 7 || a.count(driver.Nack) != 3 {
						t.Errorf("got %+v", a)
						return
					}
				}
			})
		}
		all.Wait()
		b.close()
	})
}

// LB13: who settles by a forged or stale message reads of it.
func TestLB13_ForgedIsReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{})
		deq, ack := listen.Typed[Note](b.q)
		b.start()
		ack <- swarm.Msg[Note]{}
		c := b.later(time.Minute, note(1))
		msg := <-deq
		forged := msg
		forged.Digest = swarm.NewDigest(context.Background())
		ack <- forged
		ack <- msg
		<-c
		b.close()
		foreign := 0
		for len(b.errs) > 0 {
			if errors.Is(<-b.errs, swarm.ErrForeign) {
				foreign++
			}
		}
		if foreign != 2 {
			t.Errorf("%d foreign settlements reported, want 2", foreign)
		}
	})
}

// LB9: a poison record at any place fails alone, at once.
func TestLB9_PoisonAtAnyPlace(t *testing.T) {
	for at := range 10 {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			go work(deq, ack, nil)
			bags := notes(10)
			bags[at].Body = []byte("{")
			a := b.invoke(time.Minute, bags...)
			if a.err != nil || a.took != 0 || a.count(driver.Ack) != 9 || a.settled[at].Outcome != driver.Nack {
				t.Errorf("at %d: %+v", at, a)
			}
			b.close()
		})
	}
}

// RX22: null is no *User.
func TestRX22_NullForAPointer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r, swarm.WithRedelivery(func(int) time.Duration { return time.Hour }))
		deq, ack := listen.Typed[*User](q)
		for _, body := range []string{`null`, ` null `, `""`, `[]`, ``, `{"name":7}`, `{}`} {
			r.offer(driver.Bag{Category: "User", Body: []byte(body)})
		}
		start(q)
		msg := <-deq
		if msg.Object == nil || msg.ID != "m7" {
			t.Errorf("got %+v", msg)
		}
		ack <- msg
		synctest.Wait()
		if n := r.count(driver.Nack); n != 6 {
			t.Errorf("nacked %d, want 6", n)
		}
		q.Close()
	})
}

// RX2: more messages of a hung type than its two shares.
func TestRX2_ManyMessagesOfAHungType(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second))
		hung, ack := listen.Typed[User](q)
		fast, fack := listen.Typed[Note](q)
		for i := range 30 {
			r.offer(user(fmt.Sprint(i)))
		}
		start(q)
		one := <-hung // and never another one
		synctest.Wait()
		go work(fast, fack, nil)
		r.offer(notes(5)...)
		time.Sleep(24 * time.Hour)
		if n := r.count(driver.Ack); n != 5 {
			t.Errorf("after a day %d of 5 messages of the other type; %d nacks", n, r.count(driver.Nack))
		}
		q.Close()
		ack <- one
	})
}

// What waits for a consumer goes back only if it holds up others, and nothing of it is taken: a
// redrive policy counts.
func TestRX2_OnlyWhatHoldsUpOthersGoesBack(t *testing.T) {
	slow := func(deq <-chan swarm.Msg[User], ack chan<- swarm.Msg[User]) {
		for msg := range deq {
			time.Sleep(50 * time.Second)
			ack <- msg
		}
	}
	for name, use := range map[string]func(q *kernel.Endpoint){
		"nobody reads, there is one category": func(q *kernel.Endpoint) { listen.Typed[User](q) },
		"who reads is slow, the other category idle": func(q *kernel.Endpoint) {
			go slow(listen.Typed[User](q))
			listen.Typed[Note](q)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig()
				q := endpoint(t, r, swarm.WithDrainTimeout(2*time.Minute))
				use(q)
				for i := range 60 {
					r.offer(user(fmt.Sprint(i)))
				}
				start(q)
				time.Sleep(30 * time.Minute)
				if n := r.count(driver.Nack); n != 0 {
					t.Errorf("%d nacks", n)
				}
				if err := q.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// EM6, RX8: a policy of the user's that panics does not end the process.
func TestPolicyPanics(t *testing.T) {
	t.Run("redelivery", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r, swarm.WithRedelivery(func(int) time.Duration { panic("policy") }))
			deq, ack := listen.Typed[Note](q)
			r.offer(note(1))
			start(q)
			ack <- (<-deq).Fail(nil)
			q.Close()
		})
	})
}

// CL14: life cycles that are cut short leave nothing either.
func TestCL14_ShortLives(t *testing.T) {
	for name, f := range map[string]func(t *testing.T){
		"built and closed": func(t *testing.T) { endpoint(t, newRig()).Close() },
		"channels, never run": func(t *testing.T) {
			q := endpoint(t, newRig())
			enq, _ := emit.Typed[Note](q)
			listen.Typed[Note](q)
			close(enq)
			q.Close()
		},
		"many lanes that ended before": func(t *testing.T) {
			q := endpoint(t, newRig())
			for range 50 {
				enq, dlq := emit.Typed[Note](q)
				enq <- Note{1}
				close(enq)
				for range dlq {
				}
			}
			q.Close()
		},
		"with StdErr": func(t *testing.T) {
			r := newRig()
			r.receive = func(context.Context) error { return errors.New("x") }
			q := endpoint(t, r, swarm.WithStdErr(make(chan error)))
			listen.Typed[Note](q)
			start(q)
			time.Sleep(time.Minute)
			q.Close()
		},
	} {
		t.Run(name, func(t *testing.T) { bubble(t, f) })
	}
}

// EM22: the emitter is closed while an invocation waits for a value of it. The invocation
// fails when the emitter gives up, not when its own time is over.
func TestEM22_CloseDuringTheFlush(t *testing.T) {
	for name, opts := range map[string][]swarm.Option{
		"a request hangs":                    nil,
		"a dead letter waits to be taken":    {swarm.WithDeadLetterHandled()},
		"a buffered value behind a hung one": {swarm.WithEmitCapacity(5)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBridge(t, driver.Limits{}, append(opts, swarm.WithDrainTimeout(time.Second), swarm.WithNetworkTimeout(time.Hour))...)
				b.out.send = func(ctx context.Context, _ []driver.Bag) error {
					if name == "a dead letter waits to be taken" {
						return driver.Permanent(errors.New("boom"))
					}
					<-ctx.Done()
					return ctx.Err()
				}
				deq, ack := listen.Typed[Note](b.q)
				enq, _ := emit.Typed[Note](b.emit)
				go work(deq, ack, func(msg swarm.Msg[Note]) {
					enq <- msg.Object
					if cap(enq) > 0 {
						enq <- msg.Object
					}
				})
				b.start()
				c := b.later(time.Minute, note(1))
				time.Sleep(5 * time.Second)
				_ = b.emit.Close()
				if a := <-c; a.err == nil || a.took > 6500*time.Millisecond {
					t.Errorf("%v after %s, the emitter was closed after 5 s, within 1 s", a.err, a.took)
				}
				close(enq)
				b.close()
			})
		})
	}
}

// B4, as EM21: values that an invocation has given up and that fail for good meanwhile fail
// no other one, though nobody reads dlq and the window is full of them.
func TestEM21_ManyGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{}, swarm.WithEmitWindow(5), swarm.WithNoRetry(), swarm.WithNetworkTimeout(20*time.Second))
		hang := b.hang()
		deq, ack := listen.Typed[Note](b.q)
		enq, _ := emit.Typed[Note](b.emit)
		go work(deq, ack, func(msg swarm.Msg[Note]) {
			for range 5 * msg.Object.ID {
				enq <- msg.Object
			}
		})
		b.start()
		if a := b.invoke(4*time.Second, note(1)); a.err == nil {
			t.Errorf("first: %+v", a)
		}
		for i := range 3 { // emit nothing, while the requests still hang
			if a := b.invoke(4*time.Second, note(0)); a.err != nil || a.took > time.Millisecond {
				t.Errorf("%d: %v after %s", i, a.err, a.took)
			}
		}
		hang.Store(false)
		time.Sleep(time.Minute)
		if a := b.invoke(4*time.Second, note(2)); a.err != nil || a.took > 200*time.Millisecond {
			t.Errorf("last: %v after %s", a.err, a.took)
		}
		close(enq)
		b.close()
	})
}

// RX1, RX2 as they were measured, for each size of batch that a broker may have (WithBatchSize):
// one consumer hangs, one message more than there are pollers waits for it, and 50 of another
// type come behind them.
func TestRX2_AnyBatchSize(t *testing.T) {
	for _, batch := range []int{1, 2, 5, 10} {
		for _, pollers := range []int{1, 4} {
			t.Run(fmt.Sprintf("batch %d, %d pollers", batch, pollers), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r := newRig()
					r.limits.Entries = batch
					q := endpoint(t, r, swarm.WithPollerPool(pollers), swarm.WithDrainTimeout(time.Second))
					hung, ack := listen.Typed[User](q)
					fast, fack := listen.Typed[Note](q)
					for i := range pollers + 1 {
						r.offer(user(fmt.Sprint(i)))
					}
					r.offer(notes(50)...)
					start(q)
					one := <-hung
					go work(fast, fack, nil)
					time.Sleep(3 * time.Second)
					if n := r.count(driver.Ack); n != 50 {
						t.Errorf("after 3 s %d of 50 messages of the other type", n)
					}
					q.Close()
					ack <- one
				})
			})
		}
	}
}

// C4: StdErr is the user's to close, once Close has returned.
func TestStdErrIsClosedAfterClose(t *testing.T) {
	for range 20 {
		stderr := make(chan error)
		r := newRig()
		r.send = func(context.Context, []driver.Bag) error { return driver.Permanent(errors.New("no")) }
		q := endpoint(t, r, swarm.WithStdErr(stderr), swarm.WithPolicyAtMostOnce(1))
		enq, _ := emit.Typed[Note](q)
		for i := range 500 {
			enq <- Note{i}
		}
		close(enq)
		q.Close()
		close(stderr)
	}
}
