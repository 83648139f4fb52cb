package kernel_test

import (
	"context"
	"errors"
	"io"
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

func drainError(err error) swarm.DrainError {
	if left, ok := errors.AsType[*swarm.DrainError](err); ok {
		return *left
	}
	return swarm.DrainError{}
}

// Shutdown: "without a deadline it waits for consumers as long as they take". A running
// Run notices the shutdown and joins it with DrainTimeout as its own deadline, which then
// counts, so that no Shutdown is ever longer than DrainTimeout.
func TestAttackRunCutsShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r, swarm.WithDrainTimeout(5*time.Second))
		deq, ack := listen.Typed[Note](q)
		r.offer(note(1))
		wait := start(q)
		msg := <-deq
		go func() {
			time.Sleep(20 * time.Second) // of the minute of TimeToFlight
			ack <- msg
		}()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown without a deadline: %v", err)
		}
		wait()
		time.Sleep(time.Minute)
	})
}

// C1: "at least a fifth is kept for the flush, whatever consumers do". When a second call
// brings the deadline forward, all stages end at that moment at once: nothing is left for
// the flush of what consumers emitted until then, nor for the nacks of what they hold.
func TestAttackSecondCloseLeavesNoFlush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.latency = 100 * time.Millisecond
		q := endpoint(t, r, swarm.WithDrainTimeout(5*time.Second))
		deq, ack := listen.Typed[Note](q)
		enq, _ := emit.Typed[User](q)
		r.offer(note(1))
		start(q)
		hung := <-deq
		go q.Shutdown(context.Background())
		time.Sleep(time.Second)
		go func() {
			time.Sleep(3950 * time.Millisecond)
			enq <- User{"reply"}
		}()
		left := drainError(q.Close())
		if left.Undelivered != 0 || left.Unconfirmed != 0 {
			t.Errorf("%d replies and %d nacks were cut off, though the broker needs 100 ms", left.Undelivered, left.Unconfirmed)
		}
		close(enq)
		ack <- hung
	})
}

// C1: what was not handed over is released, and only what consumers have counts as not
// settled. When polling ends late (a receive that hangs, a runner that waits for its
// consumers), nobody waits for the lanes to release: expel nacks all that waits.
func TestAttackExpelTakesWhatWaits(t *testing.T) {
	for _, name := range []string{"receive hangs", "shutdown in no time"} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				bubble(t, func(t *testing.T) {
					r := newRig()
					hang := make(chan struct{})
					calls := 0
					if name == "receive hangs" {
						r.receive = func(context.Context) error {
							if calls++; calls == 2 {
								<-hang
							}
							return nil
						}
					}
					q := endpoint(t, r, swarm.WithDrainTimeout(10*time.Second))
					deq, ack := listen.Typed[Note](q)
					listen.Typed[User](q) // idle: the poller asks again
					r.offer(notes(5)...)
					start(q)
					msg := <-deq
					synctest.Wait()
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					if name != "receive hangs" {
						cancel()
					}
					defer cancel()
					left := drainError(q.Shutdown(ctx))
					if left.Unsettled != 1 {
						t.Errorf("%d unsettled, consumers had 1", left.Unsettled)
					}
					if n := r.count(driver.Release); name == "receive hangs" && n != 4 {
						t.Errorf("released %d of 4 that were not handed over", n)
					}
					close(hang)
					ack <- msg
				})
			}
		})
	}
}

// pushing is a runner that pushes one batch and, as runners must, ends when its serve has.
type pushing struct {
	io.Closer
	bags []driver.Bag
	got  []driver.Settlement
}

func (p *pushing) Run(ctx context.Context, serve driver.Serve) error {
	var err error
	p.got, err = serve(context.WithoutCancel(ctx), p.bags)
	<-ctx.Done()
	return err
}

// C1, as above: with a runner it takes one hung consumer.
func TestAttackExpelTakesWhatWaitsAtRunner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := &pushing{Closer: newRig(), bags: []driver.Bag{note(1), note(2), note(3)}}
		q, err := kernel.NewListener(p, quiet(swarm.WithDrainTimeout(10*time.Second))...)
		if err != nil {
			t.Fatal(err)
		}
		deq, ack := listen.Typed[Note](q)
		start(q)
		hung := <-deq
		left := drainError(q.Close())
		if left.Unsettled != 1 {
			t.Errorf("%d unsettled, consumers had 1", left.Unsettled)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, s := range p.got {
			if i > 0 && s.Outcome != driver.Release {
				t.Errorf("message %d was never handed over and is settled by %s", i, s.Outcome)
			}
		}
		ack <- hung
	})
}

// C1, E4: "the error has exact counts". A lane counts after it has told OnFailure of each
// value; one that takes its time makes Close forget the values: it even returns nil.
func TestAttackSlowOnFailureHidesLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.send = func(ctx context.Context, _ []driver.Bag) error { <-ctx.Done(); return ctx.Err() }
		q := endpoint(t, r, swarm.WithNetworkTimeout(time.Hour), swarm.WithEmitWindow(10), swarm.WithDrainTimeout(time.Second))
		enq, _ := emit.Typed[Note](q, emit.OnFailure(func(Note, error) { time.Sleep(20 * time.Millisecond) }))
		for i := range 10 {
			enq <- Note{i}
		}
		synctest.Wait()
		if left := drainError(q.Close()); left.Undelivered != 10 {
			t.Errorf("Close counts %d undelivered, want 10", left.Undelivered)
		}
		time.Sleep(time.Second)
		close(enq)
	})
}

// C1: "the error has exact counts". An acknowledgement that waits for an extension of its
// lease is in no queue; when the extension hangs until the deadline, Close returns nil.
func TestAttackAckBehindExtensionIsNotCounted(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			r := newRig()
			hang := make(chan struct{})
			x := extending{r, func(ctx context.Context, _ []*driver.Bag, _ time.Duration) error {
				if !obeys {
					<-hang
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}}
			q := endpoint(t, x, swarm.WithNetworkTimeout(time.Hour), swarm.WithDrainTimeout(5*time.Second))
			deq, ack := listen.Typed[Note](q)
			n := note(1)
			n.Lease = time.Now().Add(30 * time.Second)
			r.offer(n)
			start(q)
			msg := <-deq
			time.Sleep(16 * time.Second) // the extension is in flight
			ack <- msg
			err := q.Close()
			if left := drainError(err); left.Unconfirmed != 1 {
				t.Errorf("extender obeys its context %v: Close returns %v, but the broker was never told of the ack", obeys, err)
			}
			close(hang)
		})
	}
}

// hangs is a decoder that does.
type hangs struct {
	codec.Codec[Note]
	until chan struct{}
}

func (h hangs) Decode(b []byte) (Note, error) {
	<-h.until
	return h.Codec.Decode(b)
}

// C1, L7, the seam: a decoder that hangs keeps its lane from releasing. No consumer has a
// message, so nothing is expelled or counted: Close returns nil, and the keeper goes on
// calling Extend of a driver that was closed.
func TestAttackHungDecoderIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		late := 0
		x := extending{rig: r}
		x.extend = func(context.Context, []*driver.Bag, time.Duration) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.closes > 0 {
				late++
			}
			return nil
		}
		q := endpoint(t, x, swarm.WithDrainTimeout(5*time.Second))
		until := make(chan struct{})
		listen.Typed[Note](q, listen.Codec[Note](hangs{codec.JSON[Note](""), until}))
		for i := range 3 {
			n := note(i)
			n.Lease = time.Now().Add(4 * time.Second)
			r.offer(n)
		}
		start(q)
		synctest.Wait()
		err := q.Close()
		if len(r.settles) == 0 && err == nil {
			t.Error("three messages were received and not settled, and Close returns nil")
		}
		time.Sleep(time.Minute)
		if late > 0 {
			t.Errorf("Extend was called %d times after Close of the driver", late)
		}
		close(until)
	})
}

// stuck is a driver whose Close does not return.
type stuck struct {
	*rig
	until chan struct{}
}

func (s stuck) Close() error { <-s.until; return nil }

// C3: Close "ends broker calls at its deadline"; that of the driver's own Close it waits
// for, without any.
func TestAttackDriverCloseHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := stuck{newRig(), make(chan struct{})}
		q := endpoint(t, s, swarm.WithDrainTimeout(time.Second))
		closed := make(chan struct{})
		go func() { q.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(time.Hour):
			t.Error("Close hangs in Close of the driver for an hour")
		}
		close(s.until)
	})
}

// panics is a driver whose Close does.
type panics struct{ *rig }

func (panics) Close() error { panic("driver") }

// C3: "Close is idempotent". A panic in Close of the driver passes through the first call,
// and the kernel is never closed: every further call, and Run, hangs.
func TestAttackDriverClosePanics(t *testing.T) {
	q := endpoint(t, panics{newRig()})
	func() {
		defer func() { recover() }()
		q.Close()
	}()
	closed := make(chan struct{})
	go func() { q.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
		t.Error("the second Close hangs")
	}
}
