package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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

func TestClose(t *testing.T) {
	t.Run("CL1 acks pending at Close reach the broker by a live context", func(t *testing.T) {
		for round := range 100 {
			bubble(t, func(t *testing.T) {
				r := newRig()
				r.latency = 2 * time.Millisecond
				q := endpoint(t, r)
				deq, ack := listen.Typed[Note](q)
				r.offer(notes(10)...)
				wait := start(q)
				for range 10 {
					ack <- <-deq
				}
				if err := q.Close(); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				if err := wait(); err != nil {
					t.Error(err)
				}
				r.onceEach(t, 10)
				if n := r.count(driver.Ack); n != 10 {
					t.Errorf("acked %d, want 10", n)
				}
			})
		}
	})

	t.Run("CL2 acks in the buffer at Close are not lost", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.latency = 2 * time.Millisecond
			q := endpoint(t, r, swarm.WithPolicyAtLeastOnce(20))
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(10)...)
			start(q)
			for range 10 {
				ack <- <-deq
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			r.onceEach(t, 10)
		})
	})

	t.Run("CL3 a consumer that acks while Close waits, and one that acks after it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r, swarm.WithDrainTimeout(time.Second))
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(2)...)
			start(q)
			a, b := <-deq, <-deq
			go func() {
				time.Sleep(100 * time.Millisecond)
				ack <- a
				time.Sleep(10 * time.Second)
				ack <- b.Fail(errors.New("late"))
			}()
			time.Sleep(50 * time.Millisecond)
			err := q.Close()
			left, ok := errors.AsType[*swarm.DrainError](err)
			if !ok || left.Unsettled != 1 || left.Undelivered != 0 || left.Unconfirmed != 0 {
				t.Errorf("got %v, want one unsettled", err)
			}
			r.onceEach(t, 2)
			if s, _ := r.outcome("m2"); s.outcome != driver.Nack {
				t.Errorf("m2 ended by %v, want nack", s.outcome)
			}
			time.Sleep(time.Minute) // the late ack is taken
		})
	})

	t.Run("CL4 C1 replies emitted while consumers finish are delivered", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			enq, _ := emit.Typed[User](q)
			r.offer(notes(1)...)
			start(q)
			go func() {
				for msg := range deq {
					time.Sleep(100 * time.Millisecond)
					enq <- User{"reply"}
					ack <- msg
				}
			}()
			time.Sleep(50 * time.Millisecond)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			close(enq)
			if len(r.sent) != 1 {
				t.Errorf("sent %d replies, want 1", len(r.sent))
			}
			r.onceEach(t, 1)
		})
	})

	for _, capacity := range []int{0, 100} {
		t.Run(fmt.Sprintf("CL5 CL6 EM E4 producers race with Close, capacity %d", capacity), func(t *testing.T) {
			for round := range 300 {
				bubble(t, func(t *testing.T) {
					r := newRig()
					r.latency = time.Microsecond
					var calls atomic.Int64
					r.send = func(_ context.Context, bags []driver.Bag) error {
						if calls.Add(1)%7 == 0 && round%3 == 0 {
							return &driver.BatchError{Failed: []driver.Failure{{Index: 0, Err: errors.New("no"), Permanent: true}}}
						}
						return nil
					}
					var told atomic.Int64
					q := endpoint(t, r,
						swarm.WithEmitCapacity(capacity), swarm.WithEmitWindow(1+round%20), swarm.WithDrainTimeout(time.Second))
					enq, dlq := emit.Typed[Note](q, emit.OnFailure(func(Note, error) { told.Add(1) }))
					var accepted, dead atomic.Int64
					go func() {
						for range dlq {
							dead.Add(1)
						}
					}()
					var producers sync.WaitGroup
					for p := range 4 {
						producers.Go(func() {
							for i := range 50 {
								enq <- Note{p*100 + i}
								accepted.Add(1)
								if i%10 == p {
									time.Sleep(time.Microsecond)
								}
							}
						})
					}
					time.Sleep(time.Duration(round) * 200 * time.Nanosecond)
					if err := q.Close(); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
					producers.Wait()
					close(enq)
					synctest.Wait()
					if got := int64(len(r.sent)) + told.Load(); got != accepted.Load() {
						t.Errorf("round %d: confirmed %d + reported %d, accepted %d", round, len(r.sent), told.Load(), accepted.Load())
					}
					if dead.Load() > told.Load() {
						t.Errorf("dlq gave %d, reported %d", dead.Load(), told.Load())
					}
				})
			}
		})
	}

	t.Run("CL7 retries end at the deadline of Close, which counts what is left", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.send = func(context.Context, []driver.Bag) error { return errors.New("down") }
			q := endpoint(t, r,
				swarm.WithRetryConstant(200*time.Millisecond, 1000), swarm.WithEmitWindow(10), swarm.WithDrainTimeout(100*time.Millisecond))
			enq, _ := emit.Typed[Note](q)
			for i := range 4 {
				enq <- Note{i}
			}
			began := time.Now()
			err := q.Close()
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("Close took %s", took)
			}
			if left, ok := errors.AsType[*swarm.DrainError](err); !ok || left.Undelivered != 4 {
				t.Errorf("got %v, want 4 undelivered", err)
			}
			close(enq)
		})
	})

	t.Run("CL8 C4 an unread dlq does not block Close", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.send = func(context.Context, []driver.Bag) error { return driver.Permanent(errors.New("refused")) }
			q := endpoint(t, r, swarm.WithDrainTimeout(time.Second))
			enq, dlq := emit.Typed[Note](q)
			enq <- Note{1}
			if left, ok := errors.AsType[*swarm.DrainError](q.Close()); !ok || left.Undelivered != 1 {
				t.Errorf("got %v, want 1 undelivered", left)
			}
			if _, open := <-dlq; open {
				t.Error("dlq is not closed")
			}
			close(enq)
		})
	})

	t.Run("CL9 CL10 C4 an unread StdErr blocks neither polling nor Close", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			polls := 0
			r.receive = func(context.Context) error {
				if polls++; polls%2 == 0 {
					return errors.New("outage")
				}
				return nil
			}
			stderr := make(chan error)
			q := endpoint(t, r, swarm.WithStdErr(stderr))
			deq, ack := listen.Typed[Note](q)
			start(q)
			for i := range 20 {
				r.offer(note(i))
				ack <- <-deq
			}
			began := time.Now()
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("Close took %s", took)
			}
			r.onceEach(t, 20)
		})
	})

	t.Run("CL11 C3 Close ends a call that hangs", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.send = func(ctx context.Context, _ []driver.Bag) error { <-ctx.Done(); return ctx.Err() }
			q := endpoint(t, r, swarm.WithNetworkTimeout(time.Hour), swarm.WithDrainTimeout(100*time.Millisecond))
			enq, _ := emit.Typed[Note](q)
			enq <- Note{1}
			began := time.Now()
			err := q.Close()
			if took := time.Since(began); took > 250*time.Millisecond {
				t.Errorf("Close took %s", took)
			}
			if left, ok := errors.AsType[*swarm.DrainError](err); !ok || left.Undelivered != 1 {
				t.Errorf("got %v, want 1 undelivered", err)
			}
			close(enq)
		})
	})

	t.Run("CL11 Close ends although a driver ignores its context", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			release := make(chan struct{})
			r.send = func(context.Context, []driver.Bag) error { <-release; return nil }
			q := endpoint(t, r, swarm.WithDrainTimeout(100*time.Millisecond))
			enq, dlq := emit.Typed[Note](q)
			enq <- Note{1}
			if left, ok := errors.AsType[*swarm.DrainError](q.Close()); !ok || left.Undelivered != 1 {
				t.Errorf("got %v, want 1 undelivered", left)
			}
			for range dlq {
			}
			close(release)
			close(enq)
		})
	})

	t.Run("CL12 E6 a synchronous Enq in flight is waited for, and one after Close refused", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.latency = 300 * time.Millisecond
			q := endpoint(t, r)
			notes := emit.NewTyped[Note](q)
			got := make(chan error)
			go func() { got <- notes.Enq(t.Context(), Note{1}) }()
			synctest.Wait()
			closed := make(chan error)
			go func() { closed <- q.Close() }()
			if err := <-got; err != nil {
				t.Error(err)
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
			if err := notes.Enq(t.Context(), Note{2}); !errors.Is(err, swarm.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
			if len(r.sent) != 1 || r.closes != 1 {
				t.Errorf("sent %d, closed %d times", len(r.sent), r.closes)
			}
		})
	})

	t.Run("CL13 C1 what no consumer has taken is released, and deq ends", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r, swarm.WithRecvCapacity(5), swarm.WithPollerPool(2))
			deq, _ := listen.Typed[Note](q)
			r.offer(notes(20)...)
			start(q)
			synctest.Wait()
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			for range deq {
				t.Error("deq still has a message")
			}
			r.onceEach(t, 20)
			if n := r.count(driver.Release); n != 20 {
				t.Errorf("released %d, want 20", n)
			}
		})
	})

	t.Run("C1 a receive that has just begun may answer, and what it brings is released", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			var cut atomic.Bool
			r.receive = func(ctx context.Context) error { // the broker has taken the messages, its answer is on the way
				select {
				case <-time.After(100 * time.Millisecond):
					return nil
				case <-ctx.Done():
					cut.Store(true)
					return ctx.Err()
				}
			}
			q := endpoint(t, r)
			listen.Typed[Note](q)
			r.offer(notes(10)...)
			start(q)
			time.Sleep(50 * time.Millisecond)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if cut.Load() || r.count(driver.Release) != 10 {
				t.Errorf("cut %v, released %d of 10", cut.Load(), r.count(driver.Release))
			}
			r.onceEach(t, 10)
		})
	})

	t.Run("C1 an idle receive does not hold Close up", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			q := endpoint(t, newRig())
			listen.Typed[Note](q)
			start(q)
			time.Sleep(time.Second)
			began := time.Now()
			if err := q.Close(); err != nil || time.Since(began) > 0 {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		})
	})

	t.Run("C1 releases do not wait for a consumer that works", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(10)...)
			start(q)
			msg := <-deq
			closed := make(chan error)
			go func() { closed <- q.Close() }()
			time.Sleep(time.Second)
			if n := r.count(driver.Release); n != 9 {
				t.Errorf("released %d of 9 within a second", n)
			}
			ack <- msg
			if err := <-closed; err != nil {
				t.Error(err)
			}
			r.onceEach(t, 10)
		})
	})

	t.Run("CL14 C3 50 life cycles leave no goroutine", func(t *testing.T) {
		for range 50 {
			bubble(t, func(t *testing.T) { // which fails when one is left
				r := newRig()
				q := endpoint(t, r)
				enq, dlq := emit.Typed[Note](q)
				deq, ack := listen.Typed[Note](q)
				wait := start(q)
				enq <- Note{1}
				r.offer(note(1))
				ack <- <-deq
				if err := q.Close(); err != nil {
					t.Error(err)
				}
				for range deq {
				}
				for range dlq {
				}
				close(enq)
				if err := wait(); err != nil {
					t.Error(err)
				}
			})
		}
	})

	t.Run("CL16 C5 Run ends with its context, and runs once", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			q := endpoint(t, newRig())
			deq, _ := listen.Typed[Note](q)
			ctx, cancel := context.WithCancel(t.Context())
			end := make(chan error)
			go func() { end <- q.Run(ctx) }()
			synctest.Wait()
			if err := q.Run(t.Context()); !errors.Is(err, swarm.ErrRunning) {
				t.Errorf("got %v, want ErrRunning", err)
			}
			cancel()
			if err := <-end; err != nil {
				t.Error(err)
			}
			for range deq {
			}
		})
	})

	t.Run("CL17 C3 Close twice, and from many goroutines, closes the driver once", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			wait := start(q)
			var closers sync.WaitGroup
			for range 10 {
				closers.Go(func() {
					if err := q.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			closers.Wait()
			if err := errors.Join(q.Close(), wait()); err != nil {
				t.Error(err)
			}
			if r.closes != 1 {
				t.Errorf("closed %d times", r.closes)
			}
		})
	})

	t.Run("CL18 C2 a channel made after Close refuses", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			q := endpoint(t, newRig())
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			refused := 0
			enq, dlq := emit.Typed[Note](q, emit.OnFailure(func(_ Note, err error) {
				if refused++; !errors.Is(err, swarm.ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
			}))
			for range dlq {
			}
			for i := range 10 {
				enq <- Note{i}
			}
			deq, _ := listen.Typed[Note](q)
			for range deq {
			}
			close(enq)
			synctest.Wait()
			if refused != 10 {
				t.Errorf("refused %d, want 10", refused)
			}
		})
	})

	t.Run("C2 refused sends are reported in aggregate", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			stderr := make(chan error, 10)
			q := endpoint(t, newRig(), swarm.WithStdErr(stderr))
			enq, _ := emit.Typed[Note](q)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			for i := range 100 {
				enq <- Note{i}
			}
			close(enq)
			synctest.Wait()
			n, ok := errors.AsType[*swarm.CountError](<-stderr)
			if !ok || n.Count != 100 || !errors.Is(n, swarm.ErrClosed) {
				t.Errorf("got %v, want 100 refused", n)
			}
		})
	})

	t.Run("C1 a fifth of the drain timeout is kept for the flush whatever consumers do", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.latency = 500 * time.Millisecond
			q := endpoint(t, r, swarm.WithDrainTimeout(10*time.Second), swarm.WithEmitWindow(10))
			deq, ack := listen.Typed[Note](q)
			enq, _ := emit.Typed[User](q)
			r.offer(notes(1)...)
			start(q)
			hung := <-deq
			closed := make(chan error)
			go func() { closed <- q.Close() }()
			for i := range 80 {
				enq <- User{fmt.Sprint(i)}
				time.Sleep(100 * time.Millisecond)
			}
			err := <-closed
			left, _ := errors.AsType[*swarm.DrainError](err)
			if left == nil || left.Unsettled != 1 || left.Undelivered != 0 {
				t.Errorf("got %v, want 1 unsettled", err)
			}
			close(enq)
			ack <- hung
		})
	})

	t.Run("Shutdown has a deadline of its own", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			r.offer(note(1))
			start(q)
			msg := <-deq
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if err := q.Shutdown(ctx); err == nil {
				t.Error("got nil, want one unsettled")
			}
			if took := time.Since(began); took > 1200*time.Millisecond {
				t.Errorf("took %s", took)
			}
			ack <- msg
		})
	})

	t.Run("RX16 a permanent failure of the broker ends Run with its error", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			gone := errors.New("no such queue")
			r.receive = func(context.Context) error { return driver.Permanent(gone) }
			q := endpoint(t, r)
			deq, _ := listen.Typed[Note](q)
			if err := q.Run(t.Context()); !errors.Is(err, gone) {
				t.Errorf("got %v, want %v", err, gone)
			}
			for range deq {
			}
		})
	})

	t.Run("CL20 a batch that is pushed after Close is refused at once", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := &latePush{Closer: newRig()}
			q, err := kernel.NewListener(p, quiet()...)
			if err != nil {
				t.Fatal(err)
			}
			listen.Typed[Note](q)
			start(q)
			synctest.Wait()
			q.Close()
			synctest.Wait()
			if !errors.Is(p.err, swarm.ErrClosed) || p.took > 0 {
				t.Errorf("got %v after %s", p.err, p.took)
			}
		})
	})

	t.Run("RunAll drains in order, listeners before what they emit to", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			in, out := newRig(), newRig()
			src := endpoint(t, in)
			dst, err := kernel.NewEmitter(out, quiet()...)
			if err != nil {
				t.Fatal(err)
			}
			deq, ack := listen.Typed[Note](src)
			enq, _ := emit.Bytes(dst, codec.Bytes("Image"))
			in.offer(notes(5)...)
			go func() {
				for msg := range deq {
					time.Sleep(time.Second)
					enq <- []byte("reply")
					ack <- msg
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			if err := swarm.RunAll(ctx, src, dst); err != nil {
				t.Error(err)
			}
			close(enq)
			synctest.Wait()
			if acked := in.count(driver.Ack); acked != len(out.sent) || acked < 2 {
				t.Errorf("acked %d, replied %d", acked, len(out.sent))
			}
			in.onceEach(t, 5)
		})
	})
}

// latePush is a runner that pushes a batch when it is told to end.
type latePush struct {
	io.Closer
	err  error
	took time.Duration
}

func (p *latePush) Run(ctx context.Context, serve driver.Serve) error {
	<-ctx.Done()
	time.Sleep(time.Millisecond)
	began := time.Now()
	_, p.err = serve(context.Background(), []driver.Bag{note(1)})
	p.took = time.Since(began)
	return nil
}
