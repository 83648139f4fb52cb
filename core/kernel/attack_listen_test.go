package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

func grouped(id int, group string) driver.Bag {
	b := note(id)
	b.Group = group
	return b
}

// L8, L9: at most once from a broker that keeps order. The acknowledgement of the first
// message of a group fails, which settles it before the batch is chained: the rest of the
// group, acknowledged at the broker, hangs on it and is neither handed over nor reported.
func TestAttackAtMostOnceLosesRestOfGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Ordered = true
		r.settle = func(_ context.Context, s []driver.Settlement) error {
			for i, x := range s {
				if x.Bag.ID == "m1" && x.Outcome == driver.Ack {
					return &driver.BatchError{Failed: []driver.Failure{{Index: i, Err: errors.New("stale"), Permanent: true}}}
				}
			}
			return nil
		}
		stderr := make(chan error, 100)
		q := endpoint(t, r, swarm.WithPolicyAtMostOnce(10), swarm.WithStdErr(stderr))
		deq, _ := listen.Typed[Note](q)
		r.offer(grouped(1, "g"), grouped(2, "g"), grouped(3, "g"))
		start(q)
		time.Sleep(time.Minute)
		err := q.Close()
		got := 0
		for range deq {
			got++
		}
		synctest.Wait()
		if got+len(stderr) < 3 {
			t.Errorf("of 3 messages, 2 of them acknowledged, %d were handed over and %d reported; Close: %v", got, len(stderr), err)
		}
	})
}

// L9, L7: the lease of a message has ended when it arrives (the clocks differ, the answer
// was slow). The keeper settles it while the batch is still being chained: a data race, and
// what is then hung on it is never routed, its lease extended for ever.
func TestAttackExpiredLeaderStrandsItsGroup(t *testing.T) {
	for round := range 20 {
		r := newRig()
		r.limits.Ordered = true
		r.limits.Entries = 200
		q := endpoint(t, r, swarm.WithDrainTimeout(time.Second))
		deq, ack := listen.Typed[Note](q)
		var bags []driver.Bag
		for i := range 200 {
			b := grouped(i, "g")
			b.Lease = time.Now().Add(time.Hour)
			if i == 190 {
				b.Lease = time.Now().Add(-time.Second)
			}
			bags = append(bags, b)
		}
		r.offer(bags...)
		start(q)
		go func() {
			for msg := range deq {
				ack <- msg
			}
		}()
		for i := 0; ; i++ {
			r.mu.Lock()
			n := len(r.settles)
			r.mu.Unlock()
			if n >= 199 {
				break
			}
			if i == 100 {
				t.Fatalf("round %d: 199 messages are to be handed over or given back, %d were", round, n)
			}
			time.Sleep(10 * time.Millisecond)
		}
		q.Close()
	}
}

// L7: the lease of one message of a batch has ended when it arrives, or nearly so. From
// then on the leases of its neighbours are set to end after that time: the kernel cuts a
// lease of 30 s to 1 ms, and asks for it again every half of that.
func TestAttackOneShortLeaseCutsTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		least := time.Hour
		x := extending{r, func(_ context.Context, _ []*driver.Bag, d time.Duration) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			least = min(least, d)
			return nil
		}}
		q := endpoint(t, x)
		deq, ack := listen.Typed[Note](q)
		a, b := note(1), note(2)
		a.Lease = time.Now().Add(-time.Second)
		b.Lease = time.Now().Add(30 * time.Second)
		r.offer(a, b)
		start(q)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if least < 10*time.Second || r.extends > 10 {
			t.Errorf("a lease of 30 s was set to %s, by %d extensions in 20 s", least, r.extends)
		}
		go func() {
			for msg := range deq {
				ack <- msg
			}
		}()
		q.Close()
	})
}

// L3: a consumer may fail a message for any reason. ErrLeaseLost (from the context of
// another message, say) is taken for the kernel's own, and the broker is never told.
func TestAttackFailedByErrLeaseLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r)
		deq, ack := listen.Typed[Note](q)
		r.offer(note(1))
		start(q)
		msg := <-deq
		ack <- msg.Fail(swarm.ErrLeaseLost)
		time.Sleep(time.Minute)
		if _, n := r.outcome("m1"); n != 1 {
			t.Errorf("settled %d times, want once", n)
		}
		q.Close()
	})
}

// slowly is a decoder that takes its time.
type slowly struct {
	codec.Codec[Note]
	d time.Duration
}

func (s slowly) Decode(b []byte) (Note, error) {
	time.Sleep(s.d)
	return s.Codec.Decode(b)
}

// L7: a lease is lost while its message is being decoded. The lane does not look again
// before it offers the message, and every other time hands it over.
func TestAttackLostLeaseIsHandedOver(t *testing.T) {
	handed := 0
	for range 20 {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q, listen.Codec[Note](slowly{codec.JSON[Note](""), 6 * time.Second}))
			n := note(1)
			n.Lease = time.Now().Add(5 * time.Second)
			r.offer(n)
			start(q)
			go func() {
				for msg := range deq {
					if msg.Context().Err() != nil {
						handed++
					}
					ack <- msg
				}
			}()
			time.Sleep(10 * time.Second)
			q.Close()
		})
	}
	if handed > 0 {
		t.Errorf("%d of 20 messages were handed over a second after their lease was lost", handed)
	}
}

// L8: at most once, the context of a message has ended before its consumer gets it: all
// that is done under it (a request, a query, Enq of a reply) fails.
func TestAttackAtMostOnceContextIsDead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r, swarm.WithPolicyAtMostOnce(10))
		deq, _ := listen.Typed[Note](q)
		r.offer(note(1))
		start(q)
		msg := <-deq
		synctest.Wait()
		if err := msg.Context().Err(); err != nil {
			t.Errorf("the context of a message just received: %v, %v", err, context.Cause(msg.Context()))
		}
		q.Close()
	})
}

// L5: "what comes for a category beyond its share is parked, up to one more share". Of a
// broker that keeps order, what is held back behind its group does not count.
func TestAttackHeldBackIsNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Ordered = true
		q := endpoint(t, r)
		_, ack := listen.Typed[Note](q) // nobody takes a message
		listen.Typed[User](q)           // idle
		for i := range 400 {
			r.offer(grouped(i, fmt.Sprint("g", i/10)))
		}
		start(q)
		time.Sleep(59 * time.Second) // after TimeToFlight some go back
		if n := 400 - r.waiting(); n > 20 {
			t.Errorf("%d messages are under lease, a share is 10", n)
		}
		q.Close()
		_ = ack
	})
}

// L8: at most once, a category is bound while the acknowledgements of a batch are under
// way. Its message is handed over and was never acknowledged; nobody extends its lease, no
// TimeToFlight ends it, Close waits for it and does not count it.
func TestAttackAtMostOnceLateBind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.latency = 100 * time.Millisecond
		q := endpoint(t, r, swarm.WithPolicyAtMostOnce(10))
		listen.Typed[Note](q)
		r.offer(note(1), user("x"))
		start(q)
		time.Sleep(50 * time.Millisecond)
		deq, _ := listen.Typed[User](q)
		select {
		case msg := <-deq:
			synctest.Wait()
			if _, n := r.outcome(msg.ID); n == 0 {
				t.Error("a message was handed over and not acknowledged")
			}
		case <-time.After(time.Second):
		}
		time.Sleep(10 * time.Minute)
		if _, n := r.outcome("m2"); n == 0 {
			t.Error("after 10 minutes it is not settled either")
		}
		q.Close()
	})
}

// TimeToFlight: a driver that says "this lease does not end" by a far time. UnixNano
// overflows, the keeper's timer is set for that time, and no consumer ever expires.
func TestAttackFarLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r, swarm.WithTimeToFlight(time.Minute))
		deq, ack := listen.Typed[Note](q)
		n := note(1)
		n.Lease = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
		r.offer(n)
		start(q)
		msg := <-deq
		time.Sleep(time.Hour)
		if msg.Context().Err() == nil {
			t.Error("TimeToFlight has passed an hour ago")
		}
		ack <- msg
		q.Close()
	})
}

// L1: a receive that hangs keeps its reservation, and the other poller, whose micro-batch
// is settled, waits for it although there is room by then: it is not woken.
func TestAttackHungReceiveHoldsAnotherPoller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		r.limits.Entries = 2 // a share of 4, and 4 more parked
		hang := make(chan struct{})
		calls := 0
		r.receive = func(ctx context.Context) error {
			r.mu.Lock()
			calls++
			n := calls
			r.mu.Unlock()
			if n == 4 {
				select {
				case <-hang:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
		q := endpoint(t, r, swarm.WithPollerPool(2), swarm.WithNetworkTimeout(time.Minute))
		deq, ack := listen.Typed[Note](q)
		listen.Typed[User](q)
		r.offer(notes(6)...)
		start(q)
		synctest.Wait()
		var hand []swarm.Msg[Note]
		for range 4 {
			hand = append(hand, <-deq)
		}
		for _, msg := range hand[:3] {
			ack <- msg
		}
		r.offer(notes(10)...)
		got := 0
		for {
			select {
			case msg := <-deq:
				got++
				ack <- msg
				continue
			case <-time.After(5 * time.Second):
			}
			break
		}
		if got < 12 {
			t.Errorf("got %d of 12 while one receive hangs", got)
		}
		close(hang)
		ack <- hand[3]
		q.Close()
	})
}

// L8, L5: at most once from a broker that keeps order. A message that cannot be decoded
// sends the rest of its group back, which was acknowledged and cannot go back: it is lost
// without a word.
func TestAttackAtMostOncePoisonLosesRestOfGroup(t *testing.T) {
	for _, unreadable := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.limits.Ordered = true
			stderr := make(chan error, 100)
			q := endpoint(t, r, swarm.WithPolicyAtMostOnce(10), swarm.WithStdErr(stderr))
			deq, _ := listen.Typed[Note](q)
			poison := grouped(1, "g")
			if unreadable {
				poison.Err = errors.New("no base64")
			} else {
				poison.Body = []byte("{")
			}
			r.offer(poison, grouped(2, "g"), grouped(3, "g"))
			start(q)
			time.Sleep(time.Minute)
			err := q.Close()
			got := 0
			for range deq {
				got++
			}
			synctest.Wait()
			if got+len(stderr) < 3 {
				t.Errorf("of 3 messages %d were handed over and %d reported; Close: %v", got, len(stderr), err)
			}
		})
	}
}

// L8 with a runner: "a message is acknowledged before it is handed over, nobody has to send
// it back". serve waits for it nevertheless, and answers with a nack.
func TestAttackAtMostOnceRunner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := &pushing{Closer: newRig(), bags: []driver.Bag{note(1)}}
		q, err := kernel.NewListener(p, quiet(swarm.WithPolicyAtMostOnce(10))...)
		if err != nil {
			t.Fatal(err)
		}
		deq, _ := listen.Typed[Note](q)
		start(q)
		<-deq
		time.Sleep(10 * time.Minute)
		q.Close()
		synctest.Wait()
		if len(p.got) != 1 || p.got[0].Outcome != driver.Ack {
			t.Errorf("got %+v, want an ack", p.got)
		}
	})
}
