package kernel_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// A value that its invocation has given up fails between invocations, and nobody reads
// dlq: a later invocation that emits is not held up by it; B4.
func TestB4_AValueThatWasGivenUpFailsLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{}, swarm.WithNetworkTimeout(5*time.Second), swarm.WithNoRetry())
		var hang atomic.Bool
		hang.Store(true)
		b.out.send = func(ctx context.Context, _ []driver.Bag) error {
			if hang.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
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
