package embedded_test

import (
	"testing"
	"time"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

func TestFIFO(t *testing.T) {
	bubble(t, "while messages of a group are in flight, no more of it are received", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO()))
		send(t, c, "a:1", "b:1", "c:2", "d:1", "e:2")
		receive(t, c, 2, "a:1", "b:1")
		receive(t, c, 10, "c:2", "e:2")
		receive(t, c, 10)
	})

	bubble(t, "the group goes on when the last of its messages in flight is settled", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO(), embedded.WithWait(0)))
		send(t, c, "a:1", "b:1", "c:1")
		got := receive(t, c, 2, "a:1", "b:1")
		ack(t, c, got[0])
		receive(t, c, 10)
		ack(t, c, got[1])
		ack(t, c, receive(t, c, 10, "c:1")...)
		send(t, c, "d:1")
		receive(t, c, 10, "d:1")
	})

	bubble(t, "a nacked message holds up its group until its delay has passed, and comes first", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO()))
		send(t, c, "a:1", "b:1", "c:2")
		got := receive(t, c, 2, "a:1", "b:1")
		began := time.Now()
		settle(t, c, driver.Release, 0, got[1])
		settle(t, c, driver.Nack, 10*time.Second, got[0])
		receive(t, c, 10, "c:2")
		again := receive(t, c, 10, "a:1", "b:1")
		if time.Since(began) != 10*time.Second {
			t.Errorf("got them after %v, want 10s", time.Since(began))
		}
		if again[0].Attempt != 2 || again[1].Attempt != 1 {
			t.Errorf("got attempts %d and %d, want 2 and 1", again[0].Attempt, again[1].Attempt)
		}
	})

	bubble(t, "what was given back in any order comes in order", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO()))
		send(t, c, "a:1", "b:1", "c:1", "d:1", "e:1")
		got := receive(t, c, 4, "a:1", "b:1", "c:1", "d:1")
		settle(t, c, driver.Nack, 0, got[3])
		settle(t, c, driver.Nack, 0, got[1])
		settle(t, c, driver.Release, 0, got[2])
		settle(t, c, driver.Nack, 0, got[0])
		receive(t, c, 10, "a:1", "b:1", "c:1", "d:1", "e:1")
	})

	bubble(t, "leases that end bring a group back in order", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO()))
		send(t, c, "a:1", "b:1", "c:1", "d:1")
		got := receive(t, c, 3, "a:1", "b:1", "c:1")
		if err := c.Extend(t.Context(), []*driver.Bag{&got[0]}, time.Minute); err != nil {
			t.Fatal(err)
		}
		ack(t, c, got[2])
		began := time.Now()
		receive(t, c, 10) // 20 s
		receive(t, c, 10) // b is back, and waits for a
		receive(t, c, 10, "a:1", "b:1", "d:1")
		if time.Since(began) != time.Minute {
			t.Errorf("got them after %v, want 1m", time.Since(began))
		}
	})

	bubble(t, "a delay keeps the order, and holds nothing up that is due", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO(), embedded.WithDelay(time.Second)))
		send(t, c, "a:1", "b:1", "c:1", "d:1", "e:1")
		pass(time.Millisecond)
		send(t, c, "f:1")
		pass(time.Second - time.Millisecond)
		receive(t, c, 10, "a:1", "b:1", "c:1", "d:1", "e:1")
	})

	bubble(t, "a dead letter lets its group go on", func(t *testing.T) {
		q := queue(t, embedded.WithFIFO(), embedded.WithMaxReceives(1))
		c := open(t, q)
		send(t, c, "a:1", "b:1")
		settle(t, c, driver.Nack, time.Hour, receive(t, c, 1, "a:1")...)
		receive(t, c, 1, "b:1")
		if names(q.DeadLetters()) != "a:1" {
			t.Errorf("got dead letters %q", names(q.DeadLetters()))
		}
	})

	bubble(t, "peek shows all groups in the order of sends", func(t *testing.T) {
		q := queue(t, embedded.WithFIFO())
		c := open(t, q)
		send(t, c, "a:1", "b:2", "c:1", "d:3", "e:2")
		receive(t, c, 1, "a:1")
		if got := names(q.Peek(3)); got != "b:2 c:1 d:3" {
			t.Errorf("got %q", got)
		}
	})

	bubble(t, "the groups take turns", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO()))
		send(t, c, "a:1", "b:1", "c:2", "d:1", "e:3")
		ack(t, c, receive(t, c, 1, "a:1")...)
		ack(t, c, receive(t, c, 1, "c:2")...)
		ack(t, c, receive(t, c, 1, "e:3")...)
		ack(t, c, receive(t, c, 10, "b:1", "d:1")...)
	})

	bubble(t, "a message without a group is of the group of its category", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO(), embedded.WithWait(0)))
		send(t, c, "a", "b", "c:Note", "d:1")
		got := receive(t, c, 1, "a")
		if got[0].Group != "Note" {
			t.Errorf("got group %q, want Note", got[0].Group)
		}
		receive(t, c, 10, "d:1")
		ack(t, c, got...)
		receive(t, c, 10, "b", "c:Note")
	})

	bubble(t, "without FIFO the group is a tag that no receiver sees", func(t *testing.T) {
		c := open(t, queue(t))
		send(t, c, "a:1", "b:1")
		if got := receive(t, c, 1, "a:1"); got[0].Group != "" {
			t.Errorf("got group %q, want none", got[0].Group)
		}
		receive(t, c, 1, "b:1")
	})
}
