package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// C3, L5: listen lanes that are bound while pollers wait for their turn. bind holds
// Engine.mu and takes gate.mu; turn holds gate.mu and takes Engine.mu: deadlock, and Close
// hangs with it.
func TestAttackBindDeadlocksWithPollers(t *testing.T) {
	for round := range 20 {
		r := newRig()
		q := endpoint(t, r, swarm.WithPollerPool(16), swarm.WithDrainTimeout(time.Second))
		done := make(chan struct{})
		go func() {
			defer close(done)
			start(q)
			time.Sleep(time.Millisecond) // pollers wait: nobody listens yet
			for i := range 50 {
				listen.Bytes(q, codec.Bytes(fmt.Sprint("c", i)))
			}
			q.Close()
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("round %d: wiring and Close hang", round)
		}
	}
}

// E8: a request that is exactly as big as the limit of the broker is full for dispatch
// and partial for cut: workers start and end in a hot loop without the linger timer being
// armed, and the value waits for the request of another lane that hangs.
func TestAttackExactlyFullRequestSpins(t *testing.T) {
	r := newRig()
	r.limits.Bytes = 100
	hung := make(chan struct{})
	got := make(chan struct{}, 1)
	r.send = func(ctx context.Context, bags []driver.Bag) error {
		if bags[0].Category == "A" {
			<-hung
		} else {
			got <- struct{}{}
		}
		return nil
	}
	q := endpoint(t, r)
	a, _ := emit.Bytes(q, codec.Bytes("A"))
	b, _ := emit.Bytes(q, codec.Bytes("B"))
	a <- make([]byte, 10)
	time.Sleep(50 * time.Millisecond)
	b <- make([]byte, 100)
	select {
	case <-got:
	case <-time.After(2 * time.Second):
		t.Error("a value of the greatest size was held up by a hung request of another lane")
	}
	close(hung)
	close(a)
	close(b)
	q.Close()
}

// L7: TimeToFlight of "no limit". UnixNano of the due time overflows, the keeper's timer
// is set for the year 2318, and no lease is extended any more.
func TestAttackHugeTimeToFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, extending{rig: r}, swarm.WithTimeToFlight(math.MaxInt64))
		deq, ack := listen.Typed[Note](q)
		n := note(1)
		n.Lease = time.Now().Add(30 * time.Second)
		r.offer(n)
		start(q)
		msg := <-deq
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if r.extends == 0 {
			t.Error("the lease was never extended")
		}
		ack <- msg
		q.Close()
	})
}

// L1: NetworkTimeout of "no limit". Its sum with Limits.Wait overflows: every receive is
// cut off at once, for ever.
func TestAttackHugeNetworkTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r, swarm.WithNetworkTimeout(math.MaxInt64))
		deq, ack := listen.Typed[Note](q)
		start(q)
		time.Sleep(10 * time.Minute)
		if n, _ := r.requests(); n > 40 {
			t.Errorf("%d receives in 10 minutes, each waits for 20 s", n)
		}
		r.offer(note(1))
		ack <- <-deq
		q.Close()
	})
}

// L1: a driver without a limit of entries says so by the greatest int. 2*share overflows,
// and no poller ever asks.
func TestAttackHugeEntries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Entries = math.MaxInt
		q := endpoint(t, r)
		listen.Typed[Note](q)
		start(q)
		time.Sleep(time.Minute)
		if n, _ := r.requests(); n == 0 {
			t.Error("nothing was ever received")
		}
		q.Close()
	})
}

// E6: Check and Size of a driver panic in the caller, in a lane they end the process. A
// panic of Send becomes an error.
func TestAttackCheckPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Check = func(*driver.Bag) error { panic("driver") }
		q := endpoint(t, r)
		defer q.Close()
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("Enq panicked: %v", p)
			}
		}()
		if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err == nil {
			t.Error("got nil")
		}
	})
}

// E5 (design: "delays honour ctx"): Enq has returned the end of its context, and its value
// goes on being sent again, attempt after attempt.
func TestAttackEnqRetriesForNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.latency = time.Second
		r.send = func(context.Context, []driver.Bag) error { return errors.New("no") }
		q := endpoint(t, r, swarm.WithRetryConstant(time.Second, 5))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := emit.NewTyped[Note](q).Enq(ctx, Note{1}); err == nil {
			t.Error("got nil")
		}
		time.Sleep(time.Minute)
		q.Close()
		if n := len(r.sends); n > 1 {
			t.Errorf("%d requests, %d of them after the caller had left", n, n-1)
		}
	})
}

// E8: after a slow request its worker waits up to a twentieth of its time for as many
// values again, and a lone value that comes meanwhile waits with it, though no request is
// in flight.
func TestAttackLoneValueWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		slow := 4 * time.Second
		var at time.Time
		r.send = func(ctx context.Context, bags []driver.Bag) error {
			at = time.Now()
			if len(bags) > 1 {
				time.Sleep(slow)
			}
			return nil
		}
		q := endpoint(t, r, swarm.WithEmitWindow(10), swarm.WithEmitCapacity(10))
		enq, _ := emit.Typed[Note](q)
		for i := range 10 {
			enq <- Note{i}
		}
		time.Sleep(slow + time.Millisecond)
		sent := time.Now()
		enq <- Note{11}
		time.Sleep(time.Second)
		synctest.Wait()
		if d := at.Sub(sent); d > 5*time.Millisecond {
			t.Errorf("a lone value waited for %s with no request in flight", d)
		}
		q.Close()
		close(enq)
	})
}
