package embedded_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

func TestDelivery(t *testing.T) {
	bubble(t, "what is sent is received, and gone when acknowledged", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		sent := driver.Bag{
			Category: "Note", Source: "me", Body: []byte("a"), Attrs: map[string]string{"k": "v"},
			ID: "1", Dedup: "d", Handle: "mine", Native: "mine", Attempt: 7,
		}
		if err := c.Send(t.Context(), []driver.Bag{sent}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		got := receive(t, c, 10, "a")[0]
		if got.Category != "Note" || got.Source != "me" || got.Attrs["k"] != "v" || got.ID != "1" || got.Dedup != "d" {
			t.Errorf("got %+v, want %+v", got, sent)
		}
		if now := time.Now(); got.Attempt != 1 || !got.SentAt.Equal(now.Add(-time.Second)) || !got.Lease.Equal(now.Add(30*time.Second)) {
			t.Errorf("got attempt %d, sent at %v, lease %v", got.Attempt, got.SentAt, got.Lease)
		}
		if got.Native != nil || got.Handle == "mine" {
			t.Errorf("got native %v and handle %v of the sender", got.Native, got.Handle)
		}
		wantCount(t, q, 0, 1)
		ack(t, c, got)
		wantCount(t, q, 0, 0)
	})

	bubble(t, "a receive takes no more than it asks for, in the order of sends", func(t *testing.T) {
		c := open(t, queue(t))
		send(t, c, "a", "b")
		send(t, c, "c")
		receive(t, c, 2, "a", "b")
		receive(t, c, 2, "c")
	})

	bubble(t, "EB3 a message that nobody settles comes back when its lease ends", func(t *testing.T) {
		q := queue(t, embedded.WithVisibility(5*time.Second))
		c := open(t, q)
		send(t, c, "a")
		began := time.Now()
		for attempt := 1; attempt <= 3; attempt++ {
			got := receive(t, c, 1, "a")[0]
			if got.Attempt != attempt {
				t.Errorf("got attempt %d, want %d", got.Attempt, attempt)
			}
			if want := time.Duration(attempt-1) * 5 * time.Second; time.Since(began) != want {
				t.Errorf("got it after %v, want %v", time.Since(began), want)
			}
		}
	})

	bubble(t, "EB4 a message that is always nacked becomes a dead letter", func(t *testing.T) {
		q := queue(t, embedded.WithMaxReceives(3))
		c := open(t, q)
		send(t, c, "poison", "good")
		ack(t, c, receive(t, c, 2, "poison", "good")[1])
		pass(30 * time.Second) // the lease of poison ends
		settle(t, c, driver.Nack, time.Second, receive(t, c, 10, "poison")...)
		wantCount(t, q, 1, 0)
		settle(t, c, driver.Nack, time.Hour, receive(t, c, 10, "poison")...)
		wantCount(t, q, 0, 0)
		dead := q.DeadLetters()
		if names(dead) != "poison" || dead[0].Attempt != 3 || dead[0].Handle != nil {
			t.Errorf("got dead letters %+v", dead)
		}
		dead[0].Body[0] = 'X'
		if names(q.DeadLetters()) != "poison" {
			t.Error("dead letters are no copies")
		}
		receive(t, c, 10)
	})

	bubble(t, "a message becomes a dead letter when its last lease ends", func(t *testing.T) {
		q := queue(t, embedded.WithMaxReceives(1))
		c := open(t, q)
		send(t, c, "a")
		got := receive(t, c, 1, "a")
		pass(30 * time.Second)
		if names(q.DeadLetters()) != "a" {
			t.Errorf("got dead letters %q, want a", names(q.DeadLetters()))
		}
		wantLost(t, trySettle(t, c, driver.Ack, 0, got...), 0)
	})

	bubble(t, "EB5 messages wait for a listener, however late", func(t *testing.T) {
		q := queue(t)
		send(t, open(t, q), "a", "b")
		pass(1000 * time.Hour)
		receive(t, open(t, q), 10, "a", "b")
	})

	bubble(t, "a nacked message goes behind what waits, a released one to its old place", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		send(t, c, "a", "b", "c", "d", "e")
		got := receive(t, c, 3, "a", "b", "c")
		settle(t, c, driver.Nack, 0, got[0])
		settle(t, c, driver.Release, 0, got[2])
		settle(t, c, driver.Release, 0, got[1])
		if peek := names(q.Peek(10)); peek != "b c d e a" {
			t.Errorf("got %q in the queue", peek)
		}
		got = receive(t, c, 10, "b", "c", "d", "e", "a")
		for i, want := range []int{1, 1, 1, 1, 2} {
			if got[i].Attempt != want {
				t.Errorf("got attempt %d of %s, want %d", got[i].Attempt, got[i].Body, want)
			}
		}
	})

	bubble(t, "a release at the last attempt is no dead letter", func(t *testing.T) {
		q := queue(t, embedded.WithMaxReceives(1))
		c := open(t, q)
		send(t, c, "a")
		settle(t, c, driver.Release, 0, receive(t, c, 1, "a")...)
		receive(t, c, 1, "a")
	})

	bubble(t, "a receive that does not wait gets what is due", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithWait(0)))
		send(t, c, "a")
		receive(t, c, 1, "a")
		pass(30*time.Second - 1)
		receive(t, c, 1)
		pass(1)
		receive(t, c, 1, "a")
	})

	bubble(t, "a delayed message comes exactly when it is due", func(t *testing.T) {
		q := queue(t, embedded.WithDelay(3*time.Second))
		c := open(t, q)
		began := time.Now()
		send(t, c, "a")
		wantCount(t, q, 1, 0)
		got := receive(t, c, 1, "a")
		if time.Since(began) != 3*time.Second {
			t.Errorf("got it after %v, want 3s", time.Since(began))
		}
		settle(t, c, driver.Nack, 7*time.Second, got...)
		wantCount(t, q, 1, 0)
		receive(t, c, 1, "a")
		if time.Since(began) != 10*time.Second {
			t.Errorf("got it again after %v, want 10s", time.Since(began))
		}
	})

	bubble(t, "an extended lease ends later, or earlier", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		send(t, c, "a")
		got := receive(t, c, 1, "a")
		began := time.Now()
		pass(20 * time.Second)
		if err := c.Extend(t.Context(), []*driver.Bag{&got[0]}, time.Minute); err != nil {
			t.Fatal(err)
		}
		pass(59 * time.Second)
		wantCount(t, q, 0, 1)
		got = receive(t, c, 1, "a")
		if time.Since(began) != 80*time.Second {
			t.Errorf("got it after %v, want 80s", time.Since(began))
		}
		if err := c.Extend(t.Context(), []*driver.Bag{&got[0]}, 0); err != nil {
			t.Fatal(err)
		}
		receive(t, c, 1, "a")
	})

	bubble(t, "a size limit refuses a message, and only that", func(t *testing.T) {
		q := queue(t, embedded.WithMaxSize(3))
		c := open(t, q)
		err := c.Send(t.Context(), bags("abc", "abcd", ""))
		batch, ok := errors.AsType[*driver.BatchError](err)
		if !ok || len(batch.Failed) != 1 || batch.Failed[0].Index != 1 || !batch.Failed[0].Permanent {
			t.Errorf("got %v, want a permanent failure of entry 1", err)
		}
		receive(t, c, 10, "abc", "")
		check := c.Limits().Check
		if err := check(&bags("abcd")[0]); !driver.IsPermanent(err) {
			t.Errorf("got %v, want a permanent error", err)
		}
		if err := check(&bags("abc")[0]); err != nil {
			t.Error(err)
		}
	})

	bubble(t, "limits are those of the connection", func(t *testing.T) {
		q := queue(t, embedded.WithBatchSize(5), embedded.WithFIFO())
		if l := open(t, q).Limits(); l.Entries != 5 || l.Wait != 20*time.Second || !l.Ordered || l.Check != nil {
			t.Errorf("got %+v", l)
		}
		if l := open(t, q, embedded.WithBatchSize(1), embedded.WithWait(time.Second)).Limits(); l.Entries != 1 || l.Wait != time.Second {
			t.Errorf("got %+v", l)
		}
	})

	bubble(t, "statistics count requests", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		send(t, c, "a", "b", "c")
		got := receive(t, c, 10, "a", "b", "c")
		if err := c.Extend(t.Context(), []*driver.Bag{&got[0], &got[1]}, time.Second); err != nil {
			t.Fatal(err)
		}
		ack(t, c, got...)
		receive(t, c, 10)
		if got, want := q.Stats(), (embedded.Stats{Sends: 1, Receives: 2, Settles: 1, Extends: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})

	bubble(t, "a message without an id gets one that it keeps", func(t *testing.T) {
		c := open(t, queue(t))
		if err := c.Send(t.Context(), []driver.Bag{{}, {}}); err != nil {
			t.Fatal(err)
		}
		got := receive(t, c, 2, "", "")
		settle(t, c, driver.Release, 0, got...)
		again := receive(t, c, 2, "", "")
		if got[0].ID == "" || got[0].ID == got[1].ID || got[0].ID != again[0].ID {
			t.Errorf("got ids %q and %q, then %q", got[0].ID, got[1].ID, again[0].ID)
		}
	})
}

func TestSettleOnce(t *testing.T) {
	for _, outcome := range []driver.Outcome{driver.Ack, driver.Nack, driver.Release} {
		bubble(t, "the handle of an earlier delivery fails, for good, and touches nothing: "+outcome.String(), func(t *testing.T) {
			q := queue(t)
			c := open(t, q)
			send(t, c, "a", "b")
			stale := receive(t, c, 10, "a", "b")
			pass(30 * time.Second)
			current := receive(t, c, 1, "a")
			wantLost(t, trySettle(t, c, outcome, 0, stale[0]), 0)
			wantLost(t, c.Extend(t.Context(), []*driver.Bag{&stale[0]}, time.Hour), 0)
			wantCount(t, q, 1, 1)
			pass(29 * time.Second)
			wantCount(t, q, 1, 1)
			ack(t, c, current...)
			wantCount(t, q, 1, 0)
		})

		bubble(t, "a second settlement fails, for good: "+outcome.String(), func(t *testing.T) {
			q := queue(t)
			c := open(t, q)
			send(t, c, "a", "b", "c")
			got := receive(t, c, 10, "a", "b", "c")
			settle(t, c, outcome, 0, got[0])
			for _, second := range []driver.Outcome{driver.Ack, driver.Nack, driver.Release} {
				wantLost(t, trySettle(t, c, second, 0, got[0]), 0)
			}
			wantLost(t, trySettle(t, c, outcome, 0, got[1], got[0], got[1]), 1, 2)
			wantLost(t, c.Extend(t.Context(), []*driver.Bag{&got[0], &got[2]}, time.Hour), 0)
		})

		bubble(t, "a late settlement counts while nobody else has the message: "+outcome.String(), func(t *testing.T) {
			q := queue(t)
			c := open(t, q)
			send(t, c, "a", "b")
			got := receive(t, c, 1, "a")
			pass(time.Minute)
			wantCount(t, q, 2, 0)
			settle(t, c, outcome, 0, got...)
			want := map[driver.Outcome]string{driver.Ack: "b", driver.Nack: "b a", driver.Release: "b a"}[outcome]
			receive(t, c, 10, strings.Fields(want)...)
		})
	}

	bubble(t, "a late extension takes the message back", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		send(t, c, "a")
		got := receive(t, c, 1, "a")
		pass(time.Minute)
		wantCount(t, q, 1, 0)
		if err := c.Extend(t.Context(), []*driver.Bag{&got[0]}, time.Minute); err != nil {
			t.Fatal(err)
		}
		wantCount(t, q, 0, 1)
		receive(t, c, 1)
		ack(t, c, got...)
		wantCount(t, q, 0, 0)
	})

	bubble(t, "a message may be settled by another connection to the queue", func(t *testing.T) {
		q := queue(t)
		a, b := open(t, q), open(t, q)
		send(t, a, "a")
		ack(t, b, receive(t, a, 1, "a")...)
		wantCount(t, q, 0, 0)
	})

	bubble(t, "a foreign handle or outcome fails for good", func(t *testing.T) {
		q, other := queue(t), queue(t)
		c, foreign := open(t, q), open(t, other)
		send(t, c, "a")
		send(t, foreign, "a")
		mine, theirs := receive(t, c, 1, "a"), receive(t, foreign, 1, "a")
		err := c.Settle(t.Context(), []driver.Settlement{
			{Bag: nil, Outcome: driver.Ack},
			{Bag: &driver.Bag{}, Outcome: driver.Ack},
			{Bag: &driver.Bag{Handle: []int{1}}, Outcome: driver.Ack},
			{Bag: &theirs[0], Outcome: driver.Ack},
			{Bag: &mine[0]},
			{Bag: &mine[0], Outcome: driver.Ack},
		})
		batch, ok := errors.AsType[*driver.BatchError](err)
		if !ok || len(batch.Failed) != 5 {
			t.Fatalf("got %v, want 5 failures", err)
		}
		for _, f := range batch.Failed {
			if !f.Permanent {
				t.Errorf("got %+v, want a permanent failure", f)
			}
		}
		wantCount(t, q, 0, 0)
		wantCount(t, other, 0, 1)
	})
}

func TestBytes(t *testing.T) {
	for _, size := range []int{0, 1, 100, 10_000} {
		bubble(t, "what a receiver does to a message is not seen by the next", func(t *testing.T) {
			q := queue(t)
			c := open(t, q)
			body := strings.Repeat("x", size)
			sent := driver.Bag{ID: "1", Body: []byte(body), Attrs: map[string]string{"k": "v"}}
			if err := c.Send(t.Context(), []driver.Bag{sent}); err != nil {
				t.Fatal(err)
			}
			sent.Attrs["k"] = "changed"
			for range 4 {
				// Another message, so that buffers are used again.
				send(t, c, strings.Repeat("y", size))
				got, err := c.Receive(t.Context(), 10)
				if err != nil || len(got) != 2 || string(got[0].Body) != body || got[0].Attrs["k"] != "v" {
					t.Fatalf("got %d messages, %v, changed", len(got), err)
				}
				if peek := q.Peek(10); len(peek) != 0 {
					t.Fatalf("got %d, want none", len(peek))
				}
				settle(t, c, driver.Release, 0, got[0])
				ack(t, c, got[1])
				for i := range got {
					clear(got[i].Body)
					_ = append(got[i].Body, "and beyond"...)
				}
				got[0].Attrs["k"] = "changed"
				peek := q.Peek(10)
				if len(peek) != 1 || string(peek[0].Body) != body || peek[0].Attrs["k"] != "v" {
					t.Fatalf("got %d in the queue, changed", len(peek))
				}
				clear(peek[0].Body)
				clear(peek[0].Attrs)
			}
		})
	}

	bubble(t, "a receiver cannot reach beyond its message", func(t *testing.T) {
		c := open(t, queue(t))
		sent, both := bags("a", "b"), []byte("ab")
		sent[0].Body, sent[1].Body = both[:1], both[1:]
		if err := c.Send(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
		got := receive(t, c, 1, "a")
		_ = append(got[0].Body, "X"...)
		receive(t, c, 1, "b")
	})

	bubble(t, "peek shows what waits, the delayed included, and no more than n", func(t *testing.T) {
		q := queue(t, embedded.WithDelay(time.Second))
		c := open(t, q)
		send(t, c, "a", "b", "c")
		pass(time.Second)
		receive(t, c, 1, "a")
		send(t, c, "d")
		for n, want := range map[int]string{-1: "", 0: "", 1: "b", 2: "b c", 3: "b c d", 10: "b c d"} {
			if got := names(q.Peek(n)); got != want {
				t.Errorf("got %q of %d, want %q", got, n, want)
			}
		}
	})
}

func TestDedup(t *testing.T) {
	sendBag := func(t *testing.T, c *embedded.Conn, bag driver.Bag) {
		t.Helper()
		if err := c.Send(t.Context(), []driver.Bag{bag}); err != nil {
			t.Fatal(err)
		}
	}

	bubble(t, "a repeated id is accepted, and delivered once within the window", func(t *testing.T) {
		q := queue(t, embedded.WithDedup(time.Minute))
		c := open(t, q)
		send(t, c, "a", "b", "a")
		ack(t, c, receive(t, c, 10, "a", "b")...)
		pass(59 * time.Second)
		send(t, c, "a")
		wantCount(t, q, 0, 0)
		pass(time.Second)
		send(t, c, "a", "a")
		receive(t, c, 10, "a")
	})

	bubble(t, "FIFO deduplicates for 5 minutes, other queues do not", func(t *testing.T) {
		fifo, plain := queue(t, embedded.WithFIFO()), queue(t)
		for _, q := range []*embedded.Queue{fifo, plain} {
			c := open(t, q)
			send(t, c, "a", "a")
			pass(5*time.Minute - 1)
			send(t, c, "a")
			pass(1)
			send(t, c, "a")
		}
		wantCount(t, fifo, 2, 0)
		wantCount(t, plain, 4, 0)
	})

	bubble(t, "the key of the sender comes before the id", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO()))
		sendBag(t, c, driver.Bag{ID: "1", Dedup: "k", Body: []byte("a")})
		sendBag(t, c, driver.Bag{ID: "2", Dedup: "k", Body: []byte("b")})
		sendBag(t, c, driver.Bag{ID: "1", Dedup: "l", Body: []byte("c")})
		receive(t, c, 10, "a", "c")
	})

	bubble(t, "without key and id nothing is a repetition", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithFIFO()))
		sendBag(t, c, driver.Bag{Body: []byte("a")})
		sendBag(t, c, driver.Bag{Body: []byte("a")})
		receive(t, c, 10, "a", "a")
	})

	bubble(t, "by content, the body is the key", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithContentDedup()))
		sendBag(t, c, driver.Bag{ID: "1", Body: []byte("a")})
		sendBag(t, c, driver.Bag{ID: "2", Body: []byte("a")})
		sendBag(t, c, driver.Bag{ID: "1", Body: []byte("b")})
		sendBag(t, c, driver.Bag{ID: "1", Body: []byte("b"), Dedup: "k"})
		receive(t, c, 10, "a", "b", "b")
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, "a context that has ended changes nothing and is the error", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		send(t, c, "a", "b")
		got := receive(t, c, 1, "a")
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := c.Send(ctx, bags("c")); err != why {
			t.Errorf("send: got %v, want %v", err, why)
		}
		if got, err := c.Receive(ctx, 1); err != why || got != nil {
			t.Errorf("receive: got %v, %v, want %v", got, err, why)
		}
		if err := c.Settle(ctx, []driver.Settlement{{Bag: &got[0], Outcome: driver.Ack}}); err != why {
			t.Errorf("settle: got %v, want %v", err, why)
		}
		if err := c.Extend(ctx, []*driver.Bag{&got[0]}, time.Hour); err != why {
			t.Errorf("extend: got %v, want %v", err, why)
		}
		wantCount(t, q, 1, 1)
	})

	bubble(t, "a closed connection refuses for good", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		send(t, c, "a", "b")
		got := receive(t, c, 1, "a")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := c.Receive(t.Context(), 1)
		for op, err := range map[string]error{
			"send":    c.Send(t.Context(), bags("c")),
			"receive": err,
			"settle":  trySettle(t, c, driver.Ack, 0, got...),
			"extend":  c.Extend(t.Context(), []*driver.Bag{&got[0]}, time.Hour),
		} {
			if !errors.Is(err, swarm.ErrClosed) || !driver.IsPermanent(err) {
				t.Errorf("%s: got %v, want a permanent %v", op, err, swarm.ErrClosed)
			}
		}
		if err := c.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		wantCount(t, q, 1, 1)
	})

	bubble(t, "a receive of no messages is an error", func(t *testing.T) {
		if _, err := open(t, queue(t)).Receive(t.Context(), 0); !driver.IsPermanent(err) {
			t.Errorf("got %v, want a permanent error", err)
		}
	})

	bubble(t, "empty batches are fine", func(t *testing.T) {
		c := open(t, queue(t))
		if err := errors.Join(c.Send(t.Context(), nil), c.Settle(t.Context(), nil), c.Extend(t.Context(), nil, 0)); err != nil {
			t.Error(err)
		}
	})
}
