package kernel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

// A value that its invocation has given up fails between invocations, and nobody reads
// dlq: a later invocation that emits is not held up by it; B4.
func TestB4_AValueThatWasGivenUpFailsLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{}, swarm.WithNetworkTimeout(5*time.Second), swarm.WithNoRetry())
		hang := b.hang()
		deq, ack := listen.Typed[Note](b.q)
		enq, _ := emit.Typed[Note](b.emit) // its dlq is not read
		go func() {
			work(deq, ack, func(msg swarm.Msg[Note]) { enq <- msg.Object })
			close(enq)
		}()
		b.start()
		if a := b.invoke(4*time.Second, note(1)); !errors.Is(a.err, swarm.ErrUnconfirmed) {
			t.Errorf("first: %+v", a)
		}
		hang.Store(false)
		time.Sleep(time.Minute) // the request has failed meanwhile
		if a := b.invoke(4*time.Second, note(2)); a.err != nil || a.count(driver.Ack) != 1 || a.took > 200*time.Millisecond {
			t.Errorf("next: %+v", a)
		}
		b.close()
	})
}

// A dead letter in the buffer of dlq was not taken by anybody: with WithDeadLetterHandled
// there is no buffer; B4.
func TestB4_ABufferHandlesNoDeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		boom := errors.New("boom")
		b := newBridge(t, driver.Limits{}, swarm.WithDeadLetterHandled(), swarm.WithDeadLetterCapacity(10))
		b.out.send = func(context.Context, []driver.Bag) error { return driver.Permanent(boom) }
		b.relay()
		b.start()
		if a := b.invoke(10*time.Second, note(1)); !errors.Is(a.err, boom) {
			t.Errorf("got %+v", a)
		}
		b.close()
	})
}

// The emitter is closed while the invocation waits for its dead letter to be read; B4.
func TestB4_CloseWhileADeadLetterWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		boom := errors.New("boom")
		b := newBridge(t, driver.Limits{}, swarm.WithDeadLetterHandled(), swarm.WithDrainTimeout(time.Second))
		b.out.send = func(context.Context, []driver.Bag) error { return driver.Permanent(boom) }
		b.relay()
		b.start()
		c := b.later(time.Minute, note(1))
		time.Sleep(5 * time.Second)
		_ = b.emit.Close()
		if a := <-c; !errors.Is(a.err, boom) {
			t.Errorf("got %+v", a)
		}
		b.close()
	})
}

// A listener at most once has acknowledged: a value that an emitter could not deliver does
// not bring its messages again; L8.
func TestB4_AtMostOnceIsNotRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &function{serve: make(chan driver.Serve, 1)}
		barrier := swarm.WithBarrier(swarm.NewBarrier())
		b := newBridge(t, driver.Limits{}, barrier)
		q, err := kernel.NewListener(f, quiet(barrier, swarm.WithPolicyAtMostOnce(1))...)
		if err != nil {
			t.Fatal(err)
		}
		b.out.latency = time.Hour
		deq, _ := listen.Typed[Note](q)
		enq, _ := emit.Typed[Note](b.emit)
		go func() {
			for msg := range deq {
				enq <- msg.Object
			}
			close(enq)
		}()
		go q.Run(context.Background())
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		defer cancel()
		s, err := (<-f.serve)(ctx, []driver.Bag{note(1)})
		if err != nil || s[0].Outcome != driver.Ack {
			t.Errorf("got %+v, %v", s, err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		_ = b.emit.Close()
	})
}
