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
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

// function is a runner whose invocations a test makes.
type function struct {
	limits driver.Limits
	serve  chan driver.Serve
	open   sync.WaitGroup
}

func (f *function) Limits() driver.Limits { return f.limits }
func (f *function) Close() error          { return nil }

func (f *function) Run(ctx context.Context, serve driver.Serve) error {
	f.serve <- serve
	<-ctx.Done()
	f.open.Wait()
	return nil
}

// reporting is a runner whose request fails.
type reporting struct{ function }

func (r *reporting) Run(ctx context.Context, _ driver.Serve) error {
	driver.Report(ctx, errors.New("no answer"))
	<-ctx.Done()
	return nil
}

// What a runner reports is of a receive: it is no message.
func TestARunnerReports(t *testing.T) {
	bubble(t, func(t *testing.T) {
		errs := make(chan error, 1)
		q, err := kernel.NewListener(&reporting{}, quiet(swarm.WithStdErr(errs))...)
		if err != nil {
			t.Fatal(err)
		}
		go q.Run(context.Background())
		if e, ok := errors.AsType[*swarm.ListenError](<-errs); !ok || e.Op != "receive" || e.ID != "" || e.Category != "" {
			t.Errorf("got %v", e)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// bridge is a function, a kernel on it, and one that emits, in a bubble.
type bridge struct {
	*testing.T
	f     *function
	q     *kernel.Listener
	serve driver.Serve
	out   *rig
	emit  *kernel.Emitter
	errs  chan error
}

// answer of an invocation.
type answer struct {
	settled []driver.Settlement
	err     error
	took    time.Duration
}

func newBridge(t *testing.T, limits driver.Limits, opts ...swarm.Option) *bridge {
	t.Helper()
	b := &bridge{T: t, f: &function{limits: limits, serve: make(chan driver.Serve, 1)}, out: newRig(), errs: make(chan error, 1000)}
	opts = quiet(append([]swarm.Option{swarm.WithBarrier(swarm.NewBarrier()), swarm.WithStdErr(b.errs), swarm.WithRetryConstant(10*time.Millisecond, 2)}, opts...)...)
	var err error
	if b.q, err = kernel.NewListener(b.f, opts...); err != nil {
		t.Fatal(err)
	}
	if b.emit, err = kernel.NewEmitter(b.out, opts...); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bridge) start() {
	go b.q.Run(context.Background())
	b.serve = <-b.f.serve
}

// hang makes the requests of the emitter hang, until the answer is false.
func (b *bridge) hang() *atomic.Bool {
	var hang atomic.Bool
	hang.Store(true)
	b.out.send = func(ctx context.Context, _ []driver.Bag) error {
		if hang.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	return &hang
}

func (b *bridge) close() {
	b.Helper()
	if err := b.q.Close(); err != nil {
		b.Errorf("close: %v", err)
	}
	_ = b.emit.Close()
}

// invoke is one invocation with so much time.
func (b *bridge) invoke(time_ time.Duration, bags ...driver.Bag) answer {
	b.f.open.Add(1)
	defer b.f.open.Done()
	ctx, cancel := context.WithTimeout(context.Background(), time_)
	defer cancel()
	began := time.Now()
	for i := range bags {
		bags[i].ID = fmt.Sprint("r", i)
	}
	s, err := b.serve(ctx, bags)
	if len(s) != len(bags) && err == nil {
		b.Errorf("%d settlements of %d messages", len(s), len(bags))
	}
	if ctx.Err() != nil {
		b.Errorf("answered after its deadline")
	}
	return answer{s, err, time.Since(began)}
}

func (b *bridge) later(time_ time.Duration, bags ...driver.Bag) <-chan answer {
	c := make(chan answer, 1)
	go func() { c <- b.invoke(time_, bags...) }()
	return c
}

func (a answer) count(o driver.Outcome) (n int) {
	for _, s := range a.settled {
		if s.Outcome == o {
			n++
		}
	}
	return n
}

func TestB1_AnInvocationHasItsOwnState(t *testing.T) {
	t.Run("it returns when every message is settled, exactly the failed ones failed; LB3", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			go func() {
				for msg := range deq {
					time.Sleep(10 * time.Millisecond)
					if msg.Object.ID%3 == 0 {
						ack <- msg.Fail(errors.New("boom"))
						continue
					}
					ack <- msg
				}
			}()
			a := b.invoke(time.Minute, notes(10)...)
			if a.err != nil || a.count(driver.Ack) != 6 || a.count(driver.Nack) != 4 || a.took != 100*time.Millisecond {
				t.Errorf("got %+v", a)
			}
			for i, s := range a.settled {
				if (s.Outcome == driver.Nack) != (i%3 == 0) || (s.Outcome == driver.Nack) != (s.Err != nil) || s.Bag.ID != fmt.Sprint("r", i) {
					t.Errorf("%d: %+v", i, s)
				}
			}
			b.close()
		})
	})

	t.Run("messages with one id are told apart; LB2", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			var hands []swarm.Msg[Note]
			c := b.later(time.Minute, notes(3)...)
			for range 3 {
				hands = append(hands, <-deq)
			}
			ack <- hands[0]
			ack <- hands[0]
			ack <- hands[0]
			synctest.Wait()
			select {
			case a := <-c:
				t.Errorf("answered after 1 of 3: %+v", a)
			default:
			}
			ack <- hands[1].Fail(nil)
			ack <- hands[2]
			if a := <-c; a.count(driver.Ack) != 2 || a.count(driver.Nack) != 1 {
				t.Errorf("got %+v", a)
			}
			b.close()
		})
	})

	t.Run("concurrent invocations do not mix; LB4, LB5, LB6", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			one := b.later(time.Second, note(1))
			late := <-deq
			if a := <-one; a.count(driver.Nack) != 1 || !errors.Is(a.settled[0].Err, swarm.ErrTimeToFlight) {
				t.Errorf("hung: %+v", a)
			}
			two, three := b.later(time.Minute, note(1)), b.later(time.Minute, note(3))
			m2, m3 := <-deq, <-deq
			if m2.Object.ID != 1 {
				m2, m3 = m3, m2
			}
			ack <- late.Fail(errors.New("inv1 failed late"))
			ack <- late
			synctest.Wait()
			select {
			case a := <-two:
				t.Errorf("settled by another invocation's message: %+v", a)
			case a := <-three:
				t.Errorf("settled by another invocation's message: %+v", a)
			default:
			}
			ack <- m3.Fail(errors.New("boom"))
			ack <- m2
			if a := <-two; a.err != nil || a.count(driver.Ack) != 1 {
				t.Errorf("got %+v", a)
			}
			if a := <-three; a.err != nil || a.count(driver.Nack) != 1 {
				t.Errorf("got %+v", a)
			}
			b.close()
			refused := 0
			for len(b.errs) > 0 {
				if errors.Is(<-b.errs, swarm.ErrSettled) {
					refused++
				}
			}
			if refused != 2 {
				t.Errorf("%d late settlements reported, want 2", refused)
			}
		})
	})

	t.Run("forged and stray settlements settle nothing; LB12, LB13", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			ack <- swarm.Msg[Note]{} // before the first invocation
			c := b.later(time.Minute, note(1))
			msg := <-deq
			forged := msg
			forged.Digest = swarm.NewDigest(context.Background())
			ack <- forged
			synctest.Wait()
			if len(c) != 0 {
				t.Error("a forged message settles")
			}
			ack <- msg
			if a := <-c; a.count(driver.Ack) != 1 {
				t.Errorf("got %+v", a)
			}
			b.close()
		})
	})
}

func TestB2_DeadlinesInOrder(t *testing.T) {
	t.Run("a hung consumer fails its own messages only; the next invocation is not affected; LB7", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			users, ackUsers := listen.Typed[User](b.q)
			b.start()
			go work(users, ackUsers, nil)
			c := b.later(10*time.Second, note(1), user("a"), user("b"), note(2))
			hung := <-deq // and nobody takes the second note
			a := <-c
			if a.err != nil || a.count(driver.Ack) != 2 || a.count(driver.Nack) != 2 || a.took < 8*time.Second || a.took > 9500*time.Millisecond {
				t.Errorf("got %+v", a)
			}
			go work(deq, ack, nil)
			if a := b.invoke(10*time.Second, note(3), user("c")); a.err != nil || a.count(driver.Ack) != 2 || a.took > time.Millisecond {
				t.Errorf("next: %+v", a)
			}
			ack <- hung
			b.close()
		})
	})

	t.Run("without TimeToFlight a consumer has the time of the invocation; LB10", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			go work(deq, ack, func(msg swarm.Msg[Note]) { time.Sleep(10 * time.Minute) })
			if a := b.invoke(15*time.Minute, note(1)); a.err != nil || a.count(driver.Ack) != 1 {
				t.Errorf("got %+v", a)
			}
			b.close()
		})
	})

	t.Run("TimeToFlight is the deadline if it is shorter, the context of a message ends with it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{}, swarm.WithTimeToFlight(2*time.Second))
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			c := b.later(time.Minute, note(1))
			msg := <-deq
			at, _ := msg.Context().Deadline()
			a := <-c
			if a.count(driver.Nack) != 1 || a.took > 2*time.Second || a.took < time.Second {
				t.Errorf("got %+v", a)
			}
			if msg.Context().Err() == nil || time.Until(at) > 0 || !errors.Is(context.Cause(msg.Context()), swarm.ErrTimeToFlight) {
				t.Errorf("context: %v, deadline %s ago", context.Cause(msg.Context()), time.Since(at))
			}
			ack <- msg
			b.close()
		})
	})

	t.Run("a source without deadlines gives each message TimeToFlight, and the batch no end", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{Ordered: true}, swarm.WithTimeToFlight(10*time.Second))
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			hung := make(chan swarm.Msg[Note], 1)
			go func() {
				for msg := range deq {
					if msg.Object.ID == 29 {
						hung <- msg
						continue
					}
					time.Sleep(9 * time.Second)
					ack <- msg
				}
			}()
			bags := notes(30)
			for i := range bags {
				bags[i].Group = "shard"
			}
			began := time.Now()
			s, err := b.serve(context.Background(), bags)
			if a := (answer{s, err, time.Since(began)}); err != nil || a.count(driver.Ack) != 29 || a.took != (29*9+10)*time.Second {
				t.Errorf("got %d acknowledged after %s, %v", a.count(driver.Ack), a.took, err)
			}
			ack <- <-hung
			b.close()
		})
	})

	t.Run("however short the time is", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			for _, d := range []time.Duration{time.Nanosecond, time.Microsecond, time.Millisecond, 100 * time.Millisecond} {
				ctx, cancel := context.WithTimeout(context.Background(), d)
				s, _ := b.serve(ctx, notes(1))
				if len(s) != 1 || s[0].Outcome == driver.Ack {
					t.Errorf("%s: %+v", d, s)
				}
				cancel()
			}
			go work(deq, ack, nil)
			if a := b.invoke(time.Second, note(7)); a.count(driver.Ack) != 1 {
				t.Errorf("got %+v", a)
			}
			b.close()
		})
	})
}

func TestB3_SourcesWithOneAnswer(t *testing.T) {
	t.Run("fail at once on the first nack", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{Whole: true})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			boom := errors.New("boom")
			c := b.later(time.Minute, notes(5)...)
			hung, msg := <-deq, <-deq
			ack <- msg.Fail(boom)
			a := <-c
			if a.took != 0 || a.count(driver.Nack) != 1 || a.count(driver.Release) != 4 || !errors.Is(a.settled[1].Err, boom) {
				t.Errorf("got %+v", a)
			}
			ack <- hung
			b.close()
		})
	})
	t.Run("a group stops at its first failure, others go on", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{Ordered: true})
			deq, ack := listen.Typed[Note](b.q)
			b.start()
			go work(deq, ack, nil)
			bags := notes(6)
			for i := range bags {
				bags[i].Group = []string{"a", "b"}[i%2]
			}
			bags[2].Body = []byte("?") // of a
			a := b.invoke(time.Minute, bags...)
			var got []string
			for _, s := range a.settled {
				got = append(got, s.Outcome.String())
			}
			if s := strings.Join(got, " "); s != "ack ack nack ack release ack" || a.took > time.Millisecond {
				t.Errorf("got %s", s)
			}
			b.close()
		})
	})
}

// The reason of a failure does not grow with each message that waits behind it.
func TestB3_AGroupOfThousands(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint("hangs ", hangs), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBridge(t, driver.Limits{Ordered: true})
				deq, ack := listen.Typed[Note](b.q)
				b.start()
				go func() {
					for msg := range deq {
						if hangs {
							<-msg.Context().Done()
						}
						ack <- msg.Fail(errors.New("boom"))
					}
				}()
				bags := notes(10_000)
				for i := range bags {
					bags[i].Group = "a"
				}
				a := b.invoke(time.Minute, bags...)
				if a.count(driver.Nack) == 0 || a.count(driver.Nack)+a.count(driver.Release) != 10_000 || len(a.settled[9_999].Err.Error()) > 200 {
					t.Errorf("%d failed, %d released, the last %.300s", a.count(driver.Nack), a.count(driver.Release), a.settled[9_999].Err)
				}
				b.close()
			})
		})
	}
}

func TestB5_NothingToWaitFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{})
		deq, ack := listen.Typed[Note](b.q)
		b.start()
		go work(deq, ack, nil)
		if a := b.invoke(time.Minute); a.err != nil || a.took != 0 { // LB11
			t.Errorf("empty: %+v", a)
		}
		skip := driver.Bag{Err: fmt.Errorf("s3:TestEvent: %w", driver.ErrSkip)}
		if a := b.invoke(time.Minute, skip); a.err != nil || a.took != 0 || a.count(driver.Ack) != 1 {
			t.Errorf("nothing to read: %+v", a)
		}
		// LB8, LB9: what cannot be handed over fails alone, and at once.
		bags := notes(10)
		bags[3].Category = "Unknown"
		bags[5].Body = []byte("{")
		bags[7].Err = errors.New("its envelope is torn")
		if a := b.invoke(time.Minute, bags...); a.err != nil || a.took != 0 || a.count(driver.Ack) != 7 || a.count(driver.Nack) != 3 {
			t.Errorf("poison: %+v", a)
		}
		b.close()
		if _, err := b.serve(context.Background(), notes(1)); !errors.Is(err, swarm.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// relay consumes notes and emits one for each, before it acknowledges.
func (b *bridge) relay(opts ...emit.Option) (dlq <-chan Note) {
	deq, ack := listen.Typed[Note](b.q)
	enq, dlq := emit.Typed[Note](b.emit, opts...)
	go func() {
		work(deq, ack, func(msg swarm.Msg[Note]) { enq <- msg.Object })
		close(enq)
	}()
	return dlq
}

func TestB4_WhatWasEmittedIsConfirmed(t *testing.T) {
	t.Run("before the answer", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{}, swarm.WithEmitWindow(100))
			b.out.latency = 300 * time.Millisecond
			b.relay()
			b.start()
			a := b.invoke(10*time.Second, notes(5)...)
			if a.err != nil || a.count(driver.Ack) != 5 || a.took < 300*time.Millisecond {
				t.Errorf("got %+v", a)
			}
			if n := len(b.out.sent); n != 5 {
				t.Errorf("answered when %d of 5 were confirmed", n)
			}
			// An idle emitter is not waited for.
			quiet := b.invoke(10 * time.Second)
			if quiet.err != nil || quiet.took != 0 {
				t.Errorf("idle: %+v", quiet)
			}
			b.close()
		})
	})

	t.Run("also what is in a buffer", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{}, swarm.WithEmitCapacity(100))
			b.out.latency = 100 * time.Millisecond
			deq, ack := listen.Typed[Note](b.q)
			enq, _ := emit.Typed[Note](b.emit)
			go func() {
				work(deq, ack, func(msg swarm.Msg[Note]) {
					for i := range 5 {
						enq <- Note{i}
					}
				})
				close(enq)
			}()
			b.start()
			if a := b.invoke(10*time.Second, note(1)); a.err != nil || len(b.out.sent) != 5 {
				t.Errorf("answered when %d of 5 were confirmed: %+v", len(b.out.sent), a)
			}
			b.close()
		})
	})

	t.Run("EM19 a failed value fails the invocation, read or not", func(t *testing.T) {
		for _, read := range []bool{true, false} {
			bubble(t, func(t *testing.T) {
				b := newBridge(t, driver.Limits{})
				refuse := true
				boom := errors.New("boom")
				b.out.send = func(context.Context, []driver.Bag) error {
					if refuse {
						return driver.Permanent(boom)
					}
					return nil
				}
				dlq := b.relay()
				var letters atomic.Int32
				if read {
					go func() {
						for range dlq {
							letters.Add(1)
						}
					}()
				}
				b.start()
				a := b.invoke(10*time.Second, note(1))
				if !errors.Is(a.err, boom) || a.took > 200*time.Millisecond {
					t.Errorf("read %v: got %+v", read, a)
				}
				// EM21: and no other.
				refuse = false
				for range 5 {
					if a := b.invoke(10*time.Second, note(2)); a.err != nil || a.took > time.Millisecond {
						t.Errorf("read %v, next: %+v", read, a)
					}
				}
				b.close()
				if read && letters.Load() != 1 {
					t.Errorf("%d dead letters", letters.Load())
				}
				unread := 0
				for len(b.errs) > 0 {
					if count, ok := errors.AsType[*swarm.CountError](<-b.errs); ok && errors.Is(count, swarm.ErrUnread) {
						unread += count.Count
					}
				}
				if read == (unread == 1) {
					t.Errorf("read %v, %d reported as not read", read, unread)
				}
			})
		}
	})

	t.Run("a value that does not encode fails it too", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			enq, dlq := emit.Typed[func()](b.emit, emit.Category("F"), emit.Codec[func()](broken{}))
			go work(deq, ack, func(msg swarm.Msg[Note]) { enq <- func() {} })
			go func() {
				for range dlq {
				}
			}()
			b.start()
			if a := b.invoke(10*time.Second, note(1)); a.err == nil || !strings.Contains(a.err.Error(), "does not encode") {
				t.Errorf("got %+v", a)
			}
			b.close()
			close(enq)
		})
	})

	t.Run("EM20 a slow emitter fails the invocation that emitted, and no other", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{}, swarm.WithTimeToFlight(200*time.Millisecond))
			b.out.latency = 350 * time.Millisecond
			deq, ack := listen.Typed[Note](b.q)
			enq, _ := emit.Typed[Note](b.emit)
			go func() {
				work(deq, ack, func(msg swarm.Msg[Note]) {
					if msg.Object.ID == 1 {
						enq <- msg.Object
					}
				})
				close(enq)
			}()
			b.start()
			if a := b.invoke(time.Minute, note(1)); !errors.Is(a.err, swarm.ErrUnconfirmed) || a.took > 300*time.Millisecond {
				t.Errorf("first: %+v", a)
			}
			for i := range 2 {
				if a := b.invoke(time.Minute, note(2)); a.err != nil || a.took > time.Millisecond {
					t.Errorf("%d: %+v", i+2, a)
				}
			}
			b.close()
		})
	})

	t.Run("WithDeadLetterHandled: taking a dead letter settles it", func(t *testing.T) {
		for _, read := range []bool{true, false} {
			bubble(t, func(t *testing.T) {
				b := newBridge(t, driver.Limits{}, swarm.WithDeadLetterHandled())
				boom := errors.New("boom")
				b.out.send = func(context.Context, []driver.Bag) error { return driver.Permanent(boom) }
				dlq := b.relay()
				if read {
					go func() {
						time.Sleep(time.Second)
						for range dlq {
						}
					}()
				}
				b.start()
				a := b.invoke(10*time.Second, notes(1)...)
				if read && (a.err != nil || a.took != time.Second) {
					t.Errorf("taken: %+v", a)
				}
				if !read && (!errors.Is(a.err, boom) || a.took < 9*time.Second) {
					t.Errorf("not taken: %+v", a)
				}
				b.close()
			})
		}
	})

	t.Run("with concurrent invocations, those that were open when the value was accepted", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{}, swarm.WithEmitWindow(10))
			boom := errors.New("boom")
			b.out.send = func(ctx context.Context, _ []driver.Bag) error {
				time.Sleep(time.Second)
				return driver.Permanent(boom)
			}
			deq, ack := listen.Typed[Note](b.q)
			enq, dlq := emit.Typed[Note](b.emit)
			go func() {
				for range dlq {
				}
			}()
			b.start()
			one, two := b.later(10*time.Second, note(1)), b.later(10*time.Second, note(2))
			m1, m2 := <-deq, <-deq
			enq <- Note{7}
			synctest.Wait() // the lane looks at the clock after it has the value
			three := b.later(10*time.Second, note(3))
			m3 := <-deq
			ack <- m1
			ack <- m2
			ack <- m3
			if a := <-one; !errors.Is(a.err, boom) {
				t.Errorf("one: %+v", a)
			}
			if a := <-two; !errors.Is(a.err, boom) {
				t.Errorf("two: %+v", a)
			}
			if a := <-three; a.err != nil {
				t.Errorf("three, which began later: %+v", a)
			}
			close(enq)
			b.close()
		})
	})

	t.Run("EM22 a lane that ends during the flush is not waited for", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			b.out.latency = time.Second
			deq, ack := listen.Typed[Note](b.q)
			enq, _ := emit.Typed[Note](b.emit)
			go work(deq, ack, func(msg swarm.Msg[Note]) { enq <- msg.Object })
			b.start()
			c := b.later(time.Minute, note(1))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			close(enq)
			if a := <-c; a.err != nil || a.took != time.Second || len(b.out.sent) != 1 {
				t.Errorf("got %+v", a)
			}
			b.close()
		})
	})

	t.Run("what an emitter refuses because it is closed fails the invocation", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			deq, ack := listen.Typed[Note](b.q)
			enq, _ := emit.Typed[Note](b.emit)
			go work(deq, ack, func(msg swarm.Msg[Note]) { enq <- msg.Object; time.Sleep(time.Millisecond) })
			b.start()
			if err := b.emit.Close(); err != nil {
				t.Error(err)
			}
			if a := b.invoke(time.Minute, note(1)); !errors.Is(a.err, swarm.ErrClosed) {
				t.Errorf("got %+v", a)
			}
			close(enq)
			b.close()
		})
	})

	t.Run("at most once a failed value fails nothing", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{}, swarm.WithPolicyAtMostOnce(10))
			b.out.send = func(context.Context, []driver.Bag) error { return driver.Permanent(errors.New("boom")) }
			b.relay()
			b.start()
			if a := b.invoke(time.Minute, note(1)); a.err != nil || a.count(driver.Ack) != 1 {
				t.Errorf("got %+v", a)
			}
			b.close()
		})
	})

	t.Run("a lane in user code that hangs costs the time of the invocation, not more", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			hang := make(chan struct{})
			b.out.send = func(context.Context, []driver.Bag) error { return driver.Permanent(errors.New("boom")) }
			dlq := b.relay(emit.OnFailure(func(Note, error) { <-hang }))
			go func() {
				for range dlq {
				}
			}()
			b.start()
			if a := b.invoke(10*time.Second, note(1)); !errors.Is(a.err, swarm.ErrUnconfirmed) || a.took > 10*time.Second {
				t.Errorf("got %+v", a)
			}
			close(hang)
			b.close()
		})
	})
}

type broken struct{}

func (broken) Category() string              { return "F" }
func (broken) Encode(func()) ([]byte, error) { return nil, errors.New("does not encode") }

// Close while an invocation is open: it gets an answer, and what it emitted is sent.
func TestCloseDuringAnInvocation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{})
		b.out.latency = 50 * time.Millisecond
		deq, ack := listen.Typed[Note](b.q)
		enq, _ := emit.Typed[Note](b.emit)
		b.start()
		c := b.later(time.Minute, notes(3)...)
		msg := <-deq
		go func() {
			time.Sleep(time.Second)
			enq <- msg.Object
			ack <- msg
		}()
		if err := b.q.Close(); err != nil {
			t.Error(err)
		}
		a := <-c
		if a.err != nil || a.count(driver.Ack) != 1 || a.count(driver.Release) != 2 || len(b.out.sent) != 1 {
			t.Errorf("got %+v, sent %d", a, len(b.out.sent))
		}
		close(enq)
		_ = b.emit.Close()
	})
}

// A trace travels from the context of an invocation onto what is emitted by it.
func TestCarry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		type key struct{}
		r := newRig()
		r.limits.Carry = func(ctx context.Context) map[string]string {
			if v, ok := ctx.Value(key{}).(string); ok {
				return map[string]string{"trace": v}
			}
			return nil
		}
		q := endpoint(t, r)
		note := emit.NewTyped[Note](q)
		if err := note.Enq(context.WithValue(t.Context(), key{}, "Root=1"), Note{1}); err != nil {
			t.Fatal(err)
		}
		if err := note.Enq(t.Context(), Note{2}); err != nil {
			t.Fatal(err)
		}
		if err := emit.NewBytes(q, codec.Bytes("Image")).Enq(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		if r.sent[0].Attrs["trace"] != "Root=1" || r.sent[1].Attrs != nil || r.sent[0].Binary || !r.sent[2].Binary || r.sent[1].SentAt.IsZero() {
			t.Errorf("got %+v", r.sent)
		}
		q.Close()
	})
}
