package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

// moody is a codec that takes long for one value, and refuses another one.
type moody struct{}

const slow, bad = -1, -2

var errBad = errors.New("bad")

func (moody) Category() string { return "Note" }
func (moody) Encode(n Note) ([]byte, error) {
	switch n.ID {
	case slow:
		time.Sleep(20 * time.Second)
	case bad:
		return nil, errBad
	}
	return json.Marshal(n)
}

// has tells whether the broker got the value.
func (r *rig) has(id int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.sent, func(bag driver.Bag) bool { return string(bag.Body) == fmt.Sprintf(`{"id":%d}`, id) })
}

// emits makes the consumer of the bridge emit what it gets.
func (b *bridge) emits(enq chan<- Note, values func(Note) []Note) {
	deq, ack := listen.Typed[Note](b.q)
	go func() {
		work(deq, ack, func(msg swarm.Msg[Note]) {
			for _, v := range values(msg.Object) {
				enq <- v
			}
		})
		close(enq)
	}()
	b.start()
}

// emitter is another one on the broker of the bridge.
func (b *bridge) emitter(opts ...swarm.Option) *kernel.Emitter {
	b.Helper()
	e, err := kernel.NewEmitter(b.out, quiet(opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func itself(n Note) []Note { return []Note{n} }

// A channel that has hung in code of the user, and does not any more, is asked like any other.
func TestB4_AChannelThatHasHungOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBridge(t, driver.Limits{}, swarm.WithEmitWindow(4))
		b.out.latency = 100 * time.Millisecond
		enq, _ := emit.Typed[Note](b.emit, emit.Codec[Note](moody{}))
		b.emits(enq, itself)
		if a := b.invoke(4*time.Second, note(slow)); a.err == nil {
			t.Error("what hangs is no failure")
		}
		time.Sleep(time.Minute)
		for i := range 200 {
			if a := b.invoke(4*time.Second, note(i)); a.err != nil || !b.out.has(i) {
				t.Fatalf("invocation %d is answered before its value is confirmed: %v", i, a.err)
			}
			time.Sleep(time.Second)
		}
		b.close()
	})
}

// The answer comes before the deadline of an invocation, although a channel hangs.
func TestB2_AChannelHangs(t *testing.T) {
	for _, limit := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, time.Minute} {
		bubble(t, func(t *testing.T) {
			b := newBridge(t, driver.Limits{})
			enq, _ := emit.Typed[Note](b.emit, emit.Codec[Note](moody{}))
			b.emits(enq, itself)
			if a := b.invoke(limit, note(slow)); a.took >= limit || limit < 20*time.Second && a.err == nil {
				t.Errorf("answered after %s of %s: %v", a.took, limit, a.err)
			}
			b.close()
			time.Sleep(time.Minute)
		})
	}
}

// What cannot be sent holds up no answer: neither what cannot be encoded, nor what waits in a
// buffer behind a dead letter that nobody reads.
func TestB4_NothingIsOnItsWay(t *testing.T) {
	encodes := func(n Note) []Note { return []Note{{1}, {2}, {bad}} }
	for name, x := range map[string]struct {
		option  swarm.Option
		refused bool // by the broker
		err     error
	}{
		"not encoded, at most once":  {option: swarm.WithPolicyAtMostOnce(10)},
		"not encoded, at least once": {option: swarm.WithEmitCapacity(10), err: errBad},
		"behind a dead letter":       {option: swarm.WithEmitCapacity(10), refused: true, err: errBad},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				bubble(t, func(t *testing.T) {
					barrier := swarm.WithBarrier(swarm.NewBarrier())
					b := newBridge(t, driver.Limits{}, barrier)
					b.out.latency = 20 * time.Millisecond
					if x.refused {
						b.out.send = func(context.Context, []driver.Bag) error { return driver.Permanent(errBad) }
					}
					e := b.emitter(barrier, x.option)
					enq, _ := emit.Typed[Note](e, emit.Codec[Note](moody{}))
					b.emits(enq, encodes)
					if a := b.invoke(15*time.Minute, note(1)); a.took > 5*time.Second || !errors.Is(a.err, x.err) {
						t.Errorf("answered after %s: %v", a.took, a.err)
					}
					b.close()
					_ = e.Close()
				})
			}
		})
	}
}

// A dead letter that is read makes room for what is buffered, however long that takes.
func TestB4_WhatWaitsBehindADeadLetterIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		barrier := swarm.WithBarrier(swarm.NewBarrier())
		b := newBridge(t, driver.Limits{}, barrier)
		b.out.latency = time.Second
		b.out.send = func(_ context.Context, bags []driver.Bag) error {
			if string(bags[0].Body) == `{"id":1}` {
				return driver.Permanent(errBad)
			}
			return nil
		}
		e := b.emitter(barrier, swarm.WithEmitCapacity(10))
		enq, dlq := emit.Typed[Note](e)
		go func() {
			for range dlq {
				time.Sleep(10 * time.Millisecond)
			}
		}()
		b.emits(enq, func(Note) []Note { return []Note{{1}, {2}, {3}} })
		if a := b.invoke(time.Minute, note(1)); !errors.Is(a.err, errBad) || !b.out.has(2) || !b.out.has(3) {
			t.Errorf("answered after %s: %v", a.took, a.err)
		}
		b.close()
		_ = e.Close()
	})
}

// Whoever reads dlq when he finds the time settles what is in it: an invocation waits for him, and
// for what waits behind it.
func TestB4_ADeadLetterIsReadLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		barrier := swarm.WithBarrier(swarm.NewBarrier())
		b := newBridge(t, driver.Limits{}, barrier)
		b.out.send = func(_ context.Context, bags []driver.Bag) error {
			if string(bags[0].Body) == `{"id":1}` {
				return driver.Permanent(errBad)
			}
			return nil
		}
		e := b.emitter(barrier, swarm.WithEmitCapacity(10), swarm.WithDeadLetterHandled())
		enq, dlq := emit.Typed[Note](e)
		go func() {
			for {
				time.Sleep(500 * time.Millisecond)
				if _, ok := <-dlq; !ok {
					return
				}
			}
		}()
		b.emits(enq, func(Note) []Note { return []Note{{1}, {2}} })
		if a := b.invoke(time.Minute, note(1)); errors.Is(a.err, swarm.ErrUnconfirmed) || !b.out.has(2) || a.took > 5*time.Second {
			t.Errorf("answered after %s: %v", a.took, a.err)
		}
		b.close()
		_ = e.Close()
		time.Sleep(time.Minute)
	})
}

// A dead letter that an invocation does not wait for does not hold up its answer, when the one
// that it does wait for is read.
func TestB4_TheDeadLetterOfAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		barrier := swarm.WithBarrier(swarm.NewBarrier())
		b := newBridge(t, driver.Limits{}, barrier)
		b.out.limits.Entries = 1
		b.out.send = func(_ context.Context, bags []driver.Bag) error {
			if string(bags[0].Body) == `{"id":1}` {
				time.Sleep(20 * time.Second)
			} else {
				time.Sleep(time.Second)
			}
			return driver.Permanent(errBad)
		}
		e := b.emitter(barrier, swarm.WithEmitWindow(4), swarm.WithNetworkTimeout(time.Hour), swarm.WithDeadLetterHandled())
		enq, dlq := emit.Typed[Note](e)
		began := time.Now()
		go func() {
			time.Sleep(25*time.Second - time.Since(began))
			<-dlq
			time.Sleep(time.Hour)
			for range dlq {
			}
		}()
		b.emits(enq, itself)
		if a := b.invoke(5*time.Second, note(1)); a.err == nil {
			t.Error("what is not confirmed is no failure")
		}
		if a := b.invoke(15*time.Minute, note(2)); a.took > time.Minute {
			t.Errorf("answered after %s: %v", a.took, a.err)
		}
		b.close()
		_ = e.Close()
		time.Sleep(2 * time.Hour)
	})
}
