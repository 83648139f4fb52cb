package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/listen"
)

// work acknowledges what comes, after f.
func work[T any](deq <-chan swarm.Msg[T], ack chan<- swarm.Msg[T], f func(swarm.Msg[T])) {
	for msg := range deq {
		if f != nil {
			f(msg)
		}
		ack <- msg
	}
}

func TestListen(t *testing.T) {
	t.Run("L1 a poller asks again when its micro-batch is settled", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(30)...)
			start(q)
			var inflight, most atomic.Int64
			for range 40 {
				go work(deq, ack, func(swarm.Msg[Note]) {
					n := inflight.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(time.Second)
					inflight.Add(-1)
				})
			}
			time.Sleep(time.Second / 2)
			if n := r.waiting(); n != 20 {
				t.Errorf("%d messages were received while the first micro-batch is open, want 10", 30-n)
			}
			time.Sleep(time.Minute)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			r.onceEach(t, 30)
			if most.Load() > 10 {
				t.Errorf("%d messages were in flight, a poller has 10", most.Load())
			}
		})
	})

	t.Run("RX17 L1 no sleep after a poll that gave messages", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.limits.Wait = 0
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(1000)...)
			go work(deq, ack, nil)
			began := time.Now()
			start(q)
			for r.count(driver.Ack) < 1000 {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("took %s", took)
			}
			q.Close()
		})
	})

	t.Run("PollFrequency is the pause after an empty poll", func(t *testing.T) {
		for _, x := range []struct {
			opts []swarm.Option
			wait time.Duration
			want int
		}{
			{nil, 0, 10}, // 1 s where the broker does not wait
			{nil, time.Second, 10},
			{[]swarm.Option{swarm.WithPollFrequency(time.Second)}, time.Second, 5},
			{[]swarm.Option{swarm.WithPollFrequency(2 * time.Second)}, 0, 5},
		} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				r.limits.Wait = x.wait
				q := endpoint(t, r, x.opts...)
				listen.Typed[Note](q)
				start(q)
				time.Sleep(10*time.Second - time.Millisecond)
				if n, _ := r.requests(); n != x.want {
					t.Errorf("wait %s, %d options: %d polls in 10 s, want %d", x.wait, len(x.opts), n, x.want)
				}
				q.Close()
			})
		}
	})

	t.Run("RX16 a broker that always fails is asked later and later", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.receive = func(context.Context) error { return errors.New("throttled") }
			q := endpoint(t, r)
			listen.Typed[Note](q)
			start(q)
			time.Sleep(10 * time.Second)
			if n, _ := r.requests(); n < 4 || n > 12 {
				t.Errorf("%d polls in 10 s", n)
			}
			q.Close()
		})
	})

	t.Run("RX18 L2 acks travel together, also when consumers are many", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.latency = 10 * time.Millisecond
			q := endpoint(t, r, swarm.WithPollerPool(8))
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(2000)...)
			began := time.Now()
			start(q)
			for range 8 {
				go work(deq, ack, nil)
			}
			for r.count(driver.Ack) < 2000 {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("took %s", took)
			}
			if _, calls := r.requests(); float64(calls)/2000 > 0.12 {
				ratio := float64(calls) / 2000
				t.Errorf("%.2f settle requests a message", ratio)
			}
			q.Close()
			r.onceEach(t, 2000)
		})
	})

	t.Run("L2 an ack waits 20 ms for others, not for the slowest of its micro-batch", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(2)...)
			start(q)
			a, slow := <-deq, <-deq
			ack <- a
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			if n := r.count(driver.Ack); n != 1 {
				t.Errorf("acked %d, want 1", n)
			}
			ack <- slow
			synctest.Wait()
			if n := r.count(driver.Ack); n != 2 {
				t.Errorf("the last of a micro-batch waits")
			}
			q.Close()
		})
	})

	t.Run("L2 a failed ack is retried, then reported, and never stops the poller", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			calls := 0
			r.settle = func(_ context.Context, s []driver.Settlement) error {
				calls++
				if s[0].Bag.ID == "m1" || calls == 4 {
					return errors.New("busy")
				}
				return nil
			}
			stderr := make(chan error, 10)
			q := endpoint(t, r, swarm.WithRetryConstant(time.Second, 3), swarm.WithStdErr(stderr))
			deq, ack := listen.Typed[Note](q)
			start(q)
			for i := range 3 {
				r.offer(note(i))
				ack <- <-deq
				time.Sleep(time.Minute)
			}
			e, ok := errors.AsType[*swarm.ListenError](<-stderr)
			if !ok || e.ID != "m1" || e.Op != "settle" || len(stderr) != 0 {
				t.Errorf("got %v and %d more", e, len(stderr))
			}
			if err := q.Close(); err != nil {
				t.Errorf("got %v, but nothing failed since Close", err)
			}
			r.onceEach(t, 2)
		})
	})

	t.Run("L2 a poller does not run ahead of settlements that the broker does not confirm", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			stall := make(chan struct{})
			r.settle = func(ctx context.Context, _ []driver.Settlement) error {
				select {
				case <-stall:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			q := endpoint(t, r, swarm.WithNetworkTimeout(time.Hour))
			deq, ack := listen.Typed[Note](q)
			go work(deq, ack, nil)
			r.offer(notes(1000)...)
			start(q)
			time.Sleep(time.Minute)
			if n := 1000 - r.waiting(); n > 200 {
				t.Errorf("%d messages were processed, none is confirmed", n)
			}
			close(stall)
			time.Sleep(time.Minute)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			r.onceEach(t, 1000)
		})
	})

	t.Run("RX9 L3 a nack is settled at once, by the policy or by RetryAfter", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			second := note(2)
			second.Attempt = 3
			uncounted := note(4)
			uncounted.Attempt = -1
			r.offer(note(1), second, note(3), uncounted, note(5))
			start(q)
			cause := errors.New("no")
			got := map[int]swarm.Msg[Note]{}
			for range 5 {
				msg := <-deq
				got[msg.Object.ID] = msg
			}
			ack <- got[1].Fail(cause)
			ack <- got[2].Fail(cause)
			ack <- got[3].Fail(swarm.RetryAfter(time.Hour, cause))
			ack <- got[4].Fail(nil)
			synctest.Wait()
			for id, want := range map[string][2]time.Duration{
				"m1": {0, 0},
				"m2": {time.Second, 2 * time.Second},
				"m3": {time.Hour, time.Hour},
				"m4": {time.Second, time.Second},
			} {
				s, n := r.outcome(id)
				if n != 1 || s.outcome != driver.Nack || s.delay < want[0] || s.delay > want[1] {
					t.Errorf("%s: %d settlements, last %+v, want a nack with delay %v", id, n, s, want)
				}
				if id == "m4" {
					if !errors.Is(s.err, swarm.ErrFailed) {
						t.Errorf("Fail(nil): got %v", s.err)
					}
				} else if !errors.Is(s.err, cause) {
					t.Errorf("%s: got %v", id, s.err)
				}
			}
			ack <- got[5]
			q.Close()
		})
	})

	t.Run("RX21 L4 double, late, forged and foreign settlements are ignored and reported", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			stderr := make(chan error, 20)
			q := endpoint(t, r, swarm.WithStdErr(stderr))
			deq, ack := listen.Typed[Note](q)
			users, uack := listen.Typed[User](q)
			r.offer(note(1), note(2), user("a"))
			start(q)
			a, b, u := <-deq, <-deq, <-users
			ack <- a
			ack <- a.Fail(errors.New("x"))                                                      // double
			ack <- swarm.Msg[Note]{}                                                            // zero
			ack <- swarm.Msg[Note]{Digest: swarm.NewDigest(t.Context())}                        // forged
			ack <- swarm.Msg[Note]{Digest: u.Digest}                                            // of another channel
			ack <- swarm.Msg[Note]{Digest: swarm.NewDigest(context.WithoutCancel(t.Context()))} // forged
			ack <- b
			uack <- u
			synctest.Wait()
			want := []error{swarm.ErrSettled, swarm.ErrForeign, swarm.ErrForeign, swarm.ErrForeign, swarm.ErrForeign}
			for i, w := range want {
				if err := <-stderr; !errors.Is(err, w) {
					t.Errorf("report %d: got %v, want %v", i, err, w)
				}
			}
			if err := q.Close(); err != nil || len(stderr) != 0 {
				t.Errorf("%v, %d more reports", err, len(stderr))
			}
			r.onceEach(t, 3)
			if n := r.count(driver.Ack); n != 3 {
				t.Errorf("acked %d, want 3", n)
			}
		})
	})

	t.Run("L4 a settlement by a context derived from the message's settles it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			r.offer(note(1))
			start(q)
			msg := <-deq
			ctx, cancel := context.WithCancel(msg.Context())
			defer cancel()
			ack <- swarm.NewMsg(ctx, msg.Category, msg.Object)
			q.Close()
			r.onceEach(t, 1)
		})
	})

	t.Run("RX1 RX2 L5 a hung consumer does not stop another category, and nothing is released", func(t *testing.T) {
		for _, pollers := range []int{1, 4} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				q := endpoint(t, r, swarm.WithPollerPool(pollers), swarm.WithTimeToFlight(time.Hour), swarm.WithDrainTimeout(time.Second))
				slow, sack := listen.Typed[User](q)
				fast, fack := listen.Typed[Note](q)
				share := 10 * pollers
				for i := range share + share/2 {
					r.offer(user(fmt.Sprint(i)))
				}
				start(q)
				hung := <-slow
				synctest.Wait()
				began := time.Now()
				var latest atomic.Int64
				go work(fast, fack, func(swarm.Msg[Note]) { latest.Store(int64(time.Since(began))) })
				for i := range 50 {
					r.offer(note(i))
					time.Sleep(10 * time.Millisecond)
				}
				if n := r.count(driver.Ack); n != 50 {
					t.Errorf("%d pollers: %d of 50 fast messages", pollers, n)
				}
				if n := r.count(driver.Release) + r.count(driver.Nack); n != 0 {
					t.Errorf("%d pollers: %d messages were given back to make room", pollers, n)
				}
				q.Close()
				sack <- hung
			})
		}
	})

	t.Run("L5 only when a second share is parked too does the poller hold", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r, swarm.WithTimeToFlight(time.Hour), swarm.WithDrainTimeout(time.Second))
			slow, ack := listen.Typed[User](q)
			listen.Typed[Note](q)
			for i := range 100 {
				r.offer(user(fmt.Sprint(i)))
			}
			start(q)
			var hands []swarm.Msg[User]
			go func() {
				for msg := range slow {
					hands = append(hands, msg)
				}
			}()
			time.Sleep(time.Minute)
			if taken := 100 - r.waiting(); taken != 20 {
				t.Errorf("%d messages were taken, want a share in hand and one parked: 20", taken)
			}
			q.Close()
			synctest.Wait()
			if len(hands) != 10 {
				t.Errorf("%d messages in hand, want 10", len(hands))
			}
			for _, msg := range hands {
				ack <- msg
			}
		})
	})

	t.Run("RX3 RX4 RX8 L5 a poison message at any place, neighbours are delivered", func(t *testing.T) {
		for at := range 10 {
			for _, poison := range []string{`{`, `null`, `[]`, `"panic"`, ``} {
				bubble(t, func(t *testing.T) {
					r := newRig()
					stderr := make(chan error, 10)
					q := endpoint(t, r, swarm.WithStdErr(stderr))
					deq, ack := listen.Typed[Fragile](q)
					for i := range 10 {
						body := fmt.Sprintf(`{"id":%d}`, i)
						if i == at {
							body = poison
						}
						r.offer(driver.Bag{Category: "Fragile", Body: []byte(body)})
					}
					start(q)
					for range 9 {
						ack <- <-deq
					}
					synctest.Wait()
					s, n := r.outcome(fmt.Sprint("m", at+1))
					if n != 1 || s.outcome != driver.Nack || s.delay < time.Second {
						t.Errorf("%q at %d: %+v", poison, at, s)
					}
					if e, ok := errors.AsType[*swarm.ListenError](<-stderr); !ok || e.Op != "decode" || e.Category != "Fragile" {
						t.Errorf("got %v", e)
					}
					q.Close()
					r.onceEach(t, 10)
				})
			}
		}
	})

	t.Run("L5 a message its driver cannot read is nacked and reported", func(t *testing.T) {
		for _, opts := range [][]swarm.Option{nil, {swarm.WithPolicyAtMostOnce(10)}} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				stderr := make(chan error, 10)
				q := endpoint(t, r, append(opts, swarm.WithStdErr(stderr))...)
				deq, ack := listen.Typed[Note](q)
				broken := note(1)
				broken.Err = errors.New("no base64")
				r.offer(note(0), broken, note(2))
				start(q)
				for range 2 {
					ack <- <-deq
				}
				synctest.Wait()
				if s, n := r.outcome("m2"); n != 1 || s.outcome != driver.Nack || s.delay < time.Second {
					t.Errorf("got %+v", s)
				}
				if err := <-stderr; !errors.Is(err, broken.Err) {
					t.Errorf("got %v", err)
				}
				q.Close()
				r.onceEach(t, 3)
			})
		}
	})

	t.Run("RX5 RX6 RX7 L6 unknown and missing categories", func(t *testing.T) {
		foreign := driver.Bag{Body: []byte(`{"id":7}`)}
		for _, x := range []struct {
			name    string
			opts    []swarm.Option
			bag     driver.Bag
			outcome driver.Outcome
			reports int
		}{
			{"default: nack and report", nil, user("a"), driver.Nack, 1},
			{"nack and report", []swarm.Option{swarm.WithUnknownCategory(swarm.UnknownNack)}, user("a"), driver.Nack, 1},
			{"ack", []swarm.Option{swarm.WithUnknownCategory(swarm.UnknownAck)}, user("a"), driver.Ack, 1},
			{"no category", nil, foreign, driver.Nack, 1},
			{"default category", []swarm.Option{swarm.WithDefaultCategory("Note")}, foreign, driver.Ack, 0},
			{"hostile category", nil, driver.Bag{Category: strings.Repeat("\x00ü", 5000), Body: []byte("x")}, driver.Nack, 1},
		} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				stderr := make(chan error, 10)
				q := endpoint(t, r, append(x.opts, swarm.WithStdErr(stderr))...)
				deq, ack := listen.Typed[Note](q)
				go work(deq, ack, nil)
				r.offer(x.bag)
				start(q)
				time.Sleep(time.Second)
				s, n := r.outcome("m1")
				if n != 1 || s.outcome != x.outcome || len(stderr) != x.reports {
					t.Errorf("%s: %+v, %d reports", x.name, s, len(stderr))
				}
				if x.outcome == driver.Nack && s.delay < time.Second {
					t.Errorf("%s: comes back after %s", x.name, s.delay)
				}
				if x.reports > 0 && !errors.Is(<-stderr, swarm.ErrUnknownCategory) {
					t.Errorf("%s: report is not ErrUnknownCategory", x.name)
				}
				q.Close()
			})
		}
	})

	t.Run("RX4 L6 one poison message costs at most 15 requests a minute", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.settle = func(_ context.Context, s []driver.Settlement) error {
				for _, x := range s {
					bag := *x.Bag
					bag.Attempt++
					time.AfterFunc(x.Delay, func() { r.offer(bag) })
				}
				return nil
			}
			q := endpoint(t, r)
			listen.Typed[Note](q)
			r.offer(user("poison"))
			start(q)
			time.Sleep(time.Minute)
			if polls, settles := r.requests(); polls+settles > 15 {
				t.Errorf("%d requests in a minute", polls+settles)
			}
			q.Close()
		})
	})

	t.Run("L6 the catch-all takes what nobody else listens to", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			listen.Typed[Note](q)
			rest, ack := listen.Unknown(q)
			r.offer(user("a"), driver.Bag{Body: []byte("?")})
			start(q)
			a, b := <-rest, <-rest
			if a.Category != "User" || b.Category != "" || string(b.Object) != "?" {
				t.Errorf("got %v and %v", a, b)
			}
			ack <- a
			ack <- b
			q.Close()
			r.onceEach(t, 2)
		})
	})

	t.Run("RX10 RX11 RX12 L7 leases are extended while messages wait or are worked on", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			ends := map[string]time.Time{}
			var mu sync.Mutex
			x := extending{r, func(_ context.Context, bags []*driver.Bag, d time.Duration) error {
				mu.Lock()
				defer mu.Unlock()
				for _, b := range bags {
					if time.Now().After(ends[b.ID]) {
						t.Errorf("lease of %s was extended too late", b.ID)
					}
					ends[b.ID] = time.Now().Add(d)
				}
				return nil
			}}
			q := endpoint(t, x)
			deq, ack := listen.Typed[Note](q)
			for i := range 10 {
				b := note(i)
				b.ID = fmt.Sprint("m", i+1)
				b.Lease = time.Now().Add(2 * time.Second)
				ends[b.ID] = b.Lease
				r.offer(b)
			}
			start(q)
			go work(deq, ack, func(msg swarm.Msg[Note]) {
				time.Sleep(7 * time.Second)
				mu.Lock()
				defer mu.Unlock()
				if time.Now().After(ends[msg.ID]) || msg.Context().Err() != nil {
					t.Errorf("lease of %s ended while it was worked on", msg.ID)
				}
			})
			time.Sleep(90 * time.Second)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			r.onceEach(t, 10)
			if n := r.count(driver.Ack); n != 10 {
				t.Errorf("acked %d", n)
			}
		})
	})

	t.Run("L7 a lease that cannot be extended ends the message's context, and nothing is settled", func(t *testing.T) {
		for name, fail := range map[string]error{
			"lost":    &driver.BatchError{Failed: []driver.Failure{{Err: errors.New("stale"), Permanent: true}}},
			"outage":  errors.New("busy"),
			"refused": driver.Permanent(errors.New("access denied")), // the request: it says nothing of the lease
		} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				stderr := make(chan error, 100)
				x := extending{r, func(context.Context, []*driver.Bag, time.Duration) error { return fail }}
				q := endpoint(t, x, swarm.WithStdErr(stderr))
				deq, ack := listen.Typed[Note](q)
				b := note(1)
				b.Lease = time.Now().Add(8 * time.Second)
				r.offer(b)
				start(q)
				msg := <-deq
				began := time.Now()
				<-msg.Context().Done()
				want := 8 * time.Second
				if name == "lost" {
					want = 4 * time.Second
				}
				if took := time.Since(began); took != want || !errors.Is(context.Cause(msg.Context()), swarm.ErrLeaseLost) {
					t.Errorf("%s: context ended after %s by %v", name, took, context.Cause(msg.Context()))
				}
				ack <- msg
				q.Close()
				if _, n := r.outcome("m1"); n != 0 {
					t.Errorf("%s: settled %d times, although the broker has given it away", name, n)
				}
				var late bool
				for len(stderr) > 0 {
					late = errors.Is(<-stderr, swarm.ErrSettled) || late
				}
				if !late {
					t.Errorf("%s: the late ack was not reported", name)
				}
			})
		}
	})

	t.Run("L7 a message whose lease ended while it waited is not handed over", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r) // which cannot extend
			deq, ack := listen.Typed[Note](q)
			for i := range 3 {
				b := note(i)
				b.Lease = time.Now().Add(5 * time.Second)
				r.offer(b)
			}
			start(q)
			msg := <-deq
			time.Sleep(10 * time.Second)
			select {
			case m := <-deq:
				t.Errorf("%s was handed over", m.ID)
			default:
			}
			ack <- msg
			q.Close()
		})
	})

	t.Run("L7 no extension after an ack, and a nack is not undone by one", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			var order []string
			var mu sync.Mutex
			note1 := note(1)
			note1.Lease = time.Now().Add(2 * time.Second)
			x := extending{r, func(context.Context, []*driver.Bag, time.Duration) error {
				time.Sleep(500 * time.Millisecond)
				mu.Lock()
				order = append(order, "extend")
				mu.Unlock()
				return nil
			}}
			r.settle = func(context.Context, []driver.Settlement) error {
				mu.Lock()
				order = append(order, "settle")
				mu.Unlock()
				return nil
			}
			q := endpoint(t, x)
			deq, ack := listen.Typed[Note](q)
			r.offer(note1)
			start(q)
			msg := <-deq
			time.Sleep(1200 * time.Millisecond) // an extension is in flight
			ack <- msg.Fail(errors.New("x"))
			time.Sleep(time.Minute)
			q.Close()
			if !slices.Equal(order, []string{"extend", "settle"}) {
				t.Errorf("got %v", order)
			}
		})
	})

	t.Run("TimeToFlight nacks, ends the context, and frees the poller", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			stderr := make(chan error, 10)
			q := endpoint(t, r, swarm.WithTimeToFlight(3*time.Second), swarm.WithStdErr(stderr))
			deq, ack := listen.Typed[Note](q)
			r.offer(note(1))
			start(q)
			msg := <-deq
			if d, ok := msg.Context().Deadline(); !ok || time.Until(d) != 3*time.Second {
				t.Errorf("deadline %v", d)
			}
			<-msg.Context().Done()
			synctest.Wait()
			if s, n := r.outcome("m1"); n != 1 || s.outcome != driver.Nack || s.delay < time.Second || !errors.Is(s.err, swarm.ErrTimeToFlight) {
				t.Errorf("got %+v", s)
			}
			r.offer(note(2))
			second := <-deq
			ack <- second
			ack <- msg // late
			q.Close()
			r.onceEach(t, 2)
			if err := <-stderr; !errors.Is(err, swarm.ErrTimeToFlight) {
				t.Errorf("got %v", err)
			}
			if err := <-stderr; !errors.Is(err, swarm.ErrSettled) {
				t.Errorf("got %v", err)
			}
		})
	})

	t.Run("L8 at most once: acknowledged before the hand-over, acks are ignored", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			stderr := make(chan error, 10)
			r.settle = func(_ context.Context, s []driver.Settlement) error {
				for i, x := range s {
					if x.Bag.ID == "m3" && x.Outcome == driver.Ack {
						return &driver.BatchError{Failed: []driver.Failure{{Index: i, Err: errors.New("stale"), Permanent: true}}}
					}
				}
				return nil
			}
			q := endpoint(t, r, swarm.WithPolicyAtMostOnce(5), swarm.WithStdErr(stderr))
			deq, ack := listen.Typed[Note](q)
			r.offer(notes(4)...)
			start(q)
			for range 3 {
				msg := <-deq
				if msg.ID == "m3" {
					t.Error("a message whose ack failed was handed over")
				}
				if _, n := r.outcome(msg.ID); n > 1 {
					t.Errorf("%s was settled %d times", msg.ID, n)
				}
				ack <- msg
				ack <- msg.Fail(errors.New("ignored"))
			}
			synctest.Wait()
			if len(stderr) != 1 {
				t.Errorf("%d reports, want the failed ack alone", len(stderr))
			}
			q.Close()
		})
	})

	t.Run("L8 at most once: what is buffered at Close stays with the consumer", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r, swarm.WithPolicyAtMostOnce(10))
			deq, _ := listen.Typed[Note](q)
			r.offer(notes(10)...)
			start(q)
			synctest.Wait()
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			n := 0
			for range deq {
				n++
			}
			if n != 10 {
				t.Errorf("got %d of 10", n)
			}
		})
	})

	t.Run("RX13 RX24 L9 per group in order, after a failure the rest of the group goes back", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.limits.Ordered = true
			q := endpoint(t, r, swarm.WithPollerPool(4))
			deq, ack := listen.Typed[Note](q)
			users, uack := listen.Typed[User](q) // of the same groups
			for i := range 10 {
				b := note(i)
				if i == 6 {
					b = user("6")
				}
				b.Group = fmt.Sprint("g", i%2)
				r.offer(b)
			}
			start(q)
			var mu sync.Mutex
			seen := map[string][]string{}
			handle := func(group int, id string) {
				mu.Lock()
				defer mu.Unlock()
				g := fmt.Sprint("g", group%2)
				seen[g] = append(seen[g], id)
			}
			for range 4 {
				go func() {
					for msg := range deq {
						handle(msg.Object.ID, msg.ID)
						time.Sleep(time.Duration(10-msg.Object.ID) * time.Millisecond)
						if msg.Object.ID == 5 {
							ack <- msg.Fail(errors.New("x"))
							continue
						}
						ack <- msg
					}
				}()
			}
			go work(users, uack, func(msg swarm.Msg[User]) { handle(6, msg.ID) })
			time.Sleep(time.Second)
			q.Close()
			if !slices.Equal(seen["g0"], []string{"m1", "m3", "m5", "m7", "m9"}) || !slices.Equal(seen["g1"], []string{"m2", "m4", "m6"}) {
				t.Errorf("got %v", seen)
			}
			r.onceEach(t, 10)
			if r.count(driver.Ack) != 7 || r.count(driver.Nack) != 1 || r.count(driver.Release) != 2 {
				t.Errorf("acks %d, nacks %d, releases %d", r.count(driver.Ack), r.count(driver.Nack), r.count(driver.Release))
			}
		})
	})

	t.Run("RX19 RX20 a category bound twice is a panic that names both types", func(t *testing.T) {
		q := endpoint(t, newRig())
		defer q.Close()
		listen.Typed[Note](q)
		for _, f := range []func(){
			func() { listen.Typed[Note](q) },
			func() { listen.Typed[*Note](q) },
			func() { listen.Typed[User](q, listen.Category("Note")) },
			func() { listen.Event[swarm.Event[Meta, Note]](q) },
		} {
			func() {
				defer func() {
					if p := fmt.Sprint(recover()); !strings.Contains(p, `"Note" is bound twice`) || !strings.Contains(p, "kernel_test.Note and") {
						t.Errorf("got panic %q", p)
					}
				}()
				f()
			}()
		}
	})

	t.Run("mistakes in the program are panics at wiring that name them", func(t *testing.T) {
		q := endpoint(t, newRig())
		defer q.Close()
		for want, f := range map[string]func(){
			"nil kernel":         func() { listen.Typed[Note](nil) },
			"nil kernel;":        func() { var l listen.Listener; listen.Unknown(l) },
			"Category is empty":  func() { listen.Category("") },
			"Codec is nil":       func() { listen.Codec[Note](nil) },
			"does not fit":       func() { listen.Typed[User](q, listen.Codec[Note](upper{})) },
			"explicit category":  func() { listen.Typed[map[string]Note](q) },
			"[]kernel_test.Note": func() { listen.Typed[[]Note](q) },
		} {
			func() {
				defer func() {
					if p := fmt.Sprint(recover()); !strings.Contains(p, want) {
						t.Errorf("got panic %q, want it to name %q", p, want)
					}
				}()
				f()
			}()
		}
	})

	t.Run("RX22 events without meta and data, and null, are poison", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r, swarm.WithRedelivery(func(int) time.Duration { return time.Hour }))
			deq, ack := listen.Event[UserEvent](q)
			for _, body := range []string{`{}`, `null`, `""`, `[]`, `{"data":null}`, `{"meta":{"id":"x"}}`, `{"data":{"name":"n"}}`} {
				r.offer(driver.Bag{Category: "User", Body: []byte(body)})
			}
			start(q)
			a := <-deq
			b := <-deq
			if a.Object.Meta.ID != "x" || a.Object.Data != nil || b.Object.Data.Name != "n" {
				t.Errorf("got %v and %v", a.Object, b.Object)
			}
			ack <- a
			ack <- b
			synctest.Wait()
			if n := r.count(driver.Nack); n != 5 {
				t.Errorf("nacked %d, want 5", n)
			}
			q.Close()
		})
	})

	t.Run("RX25 attempt, id, time, native record and context are visible", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			deq, ack := listen.Bytes(q, codec.Bytes("Image"))
			sent := time.Now().Add(-time.Hour)
			r.offer(driver.Bag{Category: "Image", Body: []byte("x"), ID: "id", Attempt: 2, SentAt: sent, Native: 42})
			start(q)
			msg := <-deq
			if msg.ID != "id" || msg.Attempt != 2 || !msg.SentAt.Equal(sent) || msg.IOContext != 42 || msg.Category != "Image" || string(msg.Object) != "x" {
				t.Errorf("got %+v", msg)
			}
			ctx, cancel := context.WithCancel(msg.Context())
			defer cancel()
			ack <- msg
			synctest.Wait()
			if ctx.Err() == nil || msg.Context().Err() == nil {
				t.Error("the context goes on after the message was settled")
			}
			q.Close()
		})
	})

	t.Run("packed bytes are unpacked for a codec that is not of JSON, and only there", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			bytes, ackBytes := listen.Bytes(q, codec.Bytes("Image"))
			type Point struct{ P string }
			points, ackPoints := listen.Typed[Point](q)
			body := `{"p":"aGk="}`
			r.offer(
				driver.Bag{Category: "Image", Body: []byte(body), Binary: true},
				driver.Bag{Category: "Image", Body: []byte(body)},
				driver.Bag{Category: "Point", Body: []byte(body), Binary: true},
			)
			start(q)
			for _, want := range []string{"hi", body} {
				msg := <-bytes
				if string(msg.Object) != want {
					t.Errorf("got %s, want %s", msg.Object, want)
				}
				ackBytes <- msg
			}
			msg := <-points
			if msg.Object.P != "aGk=" {
				t.Errorf("got %v", msg.Object)
			}
			ackPoints <- msg
			q.Close()
		})
	})

	t.Run("a message with nothing to read is acknowledged", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			errs := make(chan error, 1)
			q := endpoint(t, r, swarm.WithStdErr(errs))
			deq, ack := listen.Bytes(q, codec.Bytes("Image"))
			r.offer(driver.Bag{Err: fmt.Errorf("test: %w", driver.ErrSkip)}, driver.Bag{Category: "Image", Body: []byte("x")})
			start(q)
			ack <- <-deq
			q.Close()
			if n := r.count(driver.Ack); n != 2 {
				t.Errorf("acknowledged %d, want 2", n)
			}
			select {
			case err := <-errs:
				t.Errorf("reported: %v", err)
			default:
			}
		})
	})

	t.Run("an optional message is acknowledged when nobody listens to it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			errs := make(chan error, 1)
			q := endpoint(t, r, swarm.WithStdErr(errs))
			deq, ack := listen.Bytes(q, codec.Bytes("Image"))
			r.offer(driver.Bag{Category: "Other", Optional: true}, driver.Bag{Category: "Image", Optional: true, Body: []byte("x")})
			start(q)
			if msg := <-deq; string(msg.Object) != "x" {
				t.Errorf("got %q", msg.Object)
			} else {
				ack <- msg
			}
			q.Close()
			if n := r.count(driver.Ack); n != 2 || len(errs) > 0 {
				t.Errorf("acknowledged %d of 2, %d reports", n, len(errs))
			}
		})
	})

	t.Run("EB5 nothing is received before somebody listens", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			r.offer(notes(5)...)
			start(q)
			time.Sleep(time.Minute)
			if n := r.waiting(); n != 5 {
				t.Errorf("%d messages left, want 5", n)
			}
			deq, ack := listen.Typed[Note](q)
			for range 5 {
				ack <- <-deq
			}
			q.Close()
			r.onceEach(t, 5)
		})
	})

	t.Run("messages that come beside an error count", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := &beside{rig: newRig()}
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			start(q)
			ack <- <-deq
			time.Sleep(time.Second)
			q.Close()
			if n := r.count(driver.Ack); n != 1 {
				t.Errorf("acked %d", n)
			}
			if n := r.count(driver.Release); n != 1 {
				t.Errorf("released %d, want what the cancelled poll has taken", n)
			}
		})
	})
}

// beside is a broker that gives a message beside an error, and one when it is cancelled.
type beside struct {
	*rig
	polls int
}

func (b *beside) Receive(ctx context.Context, _ int) ([]driver.Bag, error) {
	bag := note(1)
	b.polls++
	bag.ID, bag.Attempt = fmt.Sprint("m", b.polls), 1
	if b.polls == 1 {
		return []driver.Bag{bag}, errors.New("half")
	}
	<-ctx.Done()
	return []driver.Bag{bag}, ctx.Err()
}

// Fragile panics when it is decoded from a string.
type Fragile struct{ ID int }

func (f *Fragile) UnmarshalJSON(b []byte) error {
	if string(b) == `"panic"` {
		panic("hostile")
	}
	var x struct{ ID int }
	err := json.Unmarshal(b, &x)
	f.ID = x.ID
	return err
}
