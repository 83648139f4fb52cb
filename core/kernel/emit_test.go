package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
)

func bodies(bags []driver.Bag) (out []string) {
	for _, b := range bags {
		out = append(out, string(b.Body))
	}
	return out
}

func wantNotes(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(`{"id":%d}`, i))
	}
	return out
}

func TestEmit(t *testing.T) {
	t.Run("E1 values of one channel reach the broker in order", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.latency = time.Millisecond
			q := endpoint(t, r)
			enq, _ := emit.Typed[Note](q)
			for i := range 100 {
				enq <- Note{i}
			}
			close(enq)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if !slices.Equal(bodies(r.sent), wantNotes(100)) {
				t.Errorf("got %v", bodies(r.sent))
			}
		})
	})

	t.Run("E1 an addressed broker: an event's group is its sink, an ordering key goes before, nothing is grouped by category", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.limits.Ordered, r.limits.Addressed = true, true
			q := endpoint(t, r)
			type event = swarm.Event[swarm.Meta, Note]
			to := func(sink string) event {
				return event{Meta: &swarm.Meta{Sink: sink, Created: time.Now()}, Data: &Note{}}
			}
			byKey := emit.NewEvent[event](q, emit.OrderBy(func(event) string { return "key" }))
			for _, send := range []func() error{
				func() error { return emit.NewEvent[event](q).Enq(t.Context(), to("a")) },
				func() error { return byKey.Enq(t.Context(), to("a")) },
				func() error { return emit.NewEvent[event](q).Enq(t.Context(), event{Data: &Note{}}) },
				func() error { return emit.NewTyped[Note](q).Enq(t.Context(), Note{}) },
			} {
				if err := send(); err != nil {
					t.Error(err)
				}
			}
			var groups []string
			for _, bag := range r.sent {
				groups = append(groups, bag.Group)
			}
			if want := []string{"a", "key", "", ""}; !slices.Equal(groups, want) {
				t.Errorf("got %q, want %q", groups, want)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	})

	for _, groupBatches := range []bool{false, true} {
		t.Run(fmt.Sprintf("E1 an ordered broker, groups batched %v: one request with a group, in order over retries", groupBatches), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig()
				r.limits.Ordered, r.limits.GroupBatches = true, groupBatches
				var mu sync.Mutex
				busy := map[string]int{}
				calls, widest := 0, 0
				r.send = func(ctx context.Context, bags []driver.Bag) error {
					mu.Lock()
					in := map[string]int{}
					for _, b := range bags {
						in[b.Group]++
					}
					for g, n := range in {
						if busy[g]++; busy[g] > 1 {
							t.Errorf("two requests in flight with group %s", g)
						}
						if n > 1 && !groupBatches {
							t.Errorf("%d entries of group %s in one request", n, g)
						}
					}
					calls++
					widest = max(widest, len(bags))
					fail := calls%5 == 0
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					for g := range in {
						busy[g]--
					}
					mu.Unlock()
					if fail {
						return errors.New("outage") // of the whole request: order is kept
					}
					return nil
				}
				q := endpoint(t, r, swarm.WithEmitWindow(50), swarm.WithRetryConstant(5*time.Millisecond, 10))
				enq, _ := emit.Typed[Note](q, emit.OrderBy(func(n Note) string { return fmt.Sprint("g", n.ID%3) }))
				for i := range 60 {
					enq <- Note{i}
				}
				close(enq)
				if err := q.Close(); err != nil {
					t.Error(err)
				}
				last := map[string]int{}
				for _, b := range r.sent {
					var n Note
					if err := json.Unmarshal(b.Body, &n); err != nil {
						t.Fatal(err)
					}
					if n.ID < last[b.Group] {
						t.Errorf("group %s: %d after %d", b.Group, n.ID, last[b.Group])
					}
					last[b.Group] = n.ID
				}
				if len(r.sent) != 60 || widest < 3 {
					t.Errorf("sent %d, widest request %d", len(r.sent), widest)
				}
			})
		})
	}

	t.Run("EM4 E2 a failed value blocks the next until dlq gives it back", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			var log logged
			r.send = func(_ context.Context, bags []driver.Bag) error {
				if string(bags[0].Body) == `{"id":0}` {
					return driver.Permanent(errors.New("refused"))
				}
				return nil
			}
			q := endpoint(t, r, log.option())
			enq, dlq := emit.Typed[Note](q)
			enq <- Note{0}
			synctest.Wait()
			select {
			case enq <- Note{1}:
				t.Error("B was accepted although A has failed")
			case <-time.After(time.Minute):
			}
			if !strings.Contains(log.String(), "dead-letter channel is not read") || strings.Count(log.String(), "not read") != 1 {
				t.Errorf("the log does not explain the deadlock once: %s", log.String())
			}
			if got := <-dlq; got.ID != 0 {
				t.Errorf("got %v", got)
			}
			enq <- Note{1}
			close(enq)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if len(r.sent) != 1 {
				t.Errorf("sent %d", len(r.sent))
			}
		})
	})

	t.Run("E2 at most window values are accepted and not confirmed", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			release := make(chan struct{})
			r.send = func(context.Context, []driver.Bag) error { <-release; return nil }
			q := endpoint(t, r, swarm.WithEmitWindow(7))
			enq, _ := emit.Typed[Note](q)
			var accepted atomic.Int64
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range 20 {
					enq <- Note{i}
					accepted.Add(1)
				}
			}()
			time.Sleep(time.Second)
			if accepted.Load() != 7 {
				t.Errorf("accepted %d, want 7", accepted.Load())
			}
			close(release)
			<-done
			close(enq)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	})

	t.Run("E3 at most once: a send waits for buffer space only, failures never block", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.send = func(_ context.Context, bags []driver.Bag) error { return driver.Permanent(errors.New("refused")) }
			stderr := make(chan error, 100)
			q := endpoint(t, r, swarm.WithPolicyAtMostOnce(5), swarm.WithStdErr(stderr))
			var told atomic.Int64
			enq, dlq := emit.Typed[Note](q, emit.OnFailure(func(Note, error) { told.Add(1) }))
			for i := range 20 {
				enq <- Note{i}
			}
			close(enq)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			dead := 0
			for range dlq {
				dead++
			}
			dropped := 0
			for len(stderr) > 0 {
				if err := <-stderr; errors.Is(err, swarm.ErrDropped) {
					dropped++
				}
			}
			if dead != 5 || dropped != 15 || told.Load() != 20 {
				t.Errorf("dlq %d, dropped %d, told %d, want 5, 15, 20", dead, dropped, told.Load())
			}
		})
	})

	t.Run("EM1 E5 the first attempt always happens", func(t *testing.T) {
		for _, policy := range []swarm.Option{
			swarm.WithNoRetry(),
			swarm.WithRetryConstant(time.Hour, 1),
			swarm.WithRetry(backoff.Policy{Attempts: 3}),
			swarm.WithRetryExponential(0, 2),
		} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				q := endpoint(t, r, policy)
				if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
					t.Error(err)
				}
				if err := q.Close(); err != nil || len(r.sent) != 1 {
					t.Errorf("%v, sent %d", err, len(r.sent))
				}
			})
		}
	})

	t.Run("EM3 no delay after the last attempt", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.send = func(context.Context, []driver.Bag) error { return errors.New("down") }
			q := endpoint(t, r, swarm.WithRetryConstant(100*time.Millisecond, 3))
			began := time.Now()
			err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1})
			if took := time.Since(began); took != 200*time.Millisecond {
				t.Errorf("took %s, want 200 ms", took)
			}
			if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 3 || e.Category != "Note" || e.ID == "" {
				t.Errorf("got %v", err)
			}
			q.Close()
		})
	})

	t.Run("EM9 EM10 E5 E6 Enq retries, but not what is permanent", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			calls := 0
			r.send = func(_ context.Context, bags []driver.Bag) error {
				switch calls++; {
				case string(bags[0].Body) == `{"id":2}`:
					return driver.Permanent(errors.New("bad request"))
				case calls < 3:
					return errors.New("busy")
				}
				return nil
			}
			q := endpoint(t, r)
			user := emit.NewTyped[Note](q)
			if err := user.Enq(t.Context(), Note{1}); err != nil || calls != 3 {
				t.Errorf("got %v after %d calls", err, calls)
			}
			calls = 0
			if err := user.Enq(t.Context(), Note{2}); !driver.IsPermanent(err) || calls != 1 {
				t.Errorf("got %v after %d calls", err, calls)
			}
			q.Close()
		})
	})

	t.Run("E5 only the failed entries of a batch are sent again", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			first := true
			r.send = func(_ context.Context, bags []driver.Bag) error {
				time.Sleep(time.Millisecond)
				if len(bags) > 3 && first {
					first = false
					return &driver.BatchError{Failed: []driver.Failure{
						{Index: 1, Err: errors.New("throttled")},
						{Index: 2, Err: errors.New("malformed"), Permanent: true},
					}}
				}
				return nil
			}
			q := endpoint(t, r, swarm.WithEmitWindow(20))
			enq, dlq := emit.Typed[Note](q)
			for i := range 11 {
				enq <- Note{i}
			}
			dead := <-dlq
			close(enq)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			times := map[string]int{}
			for _, call := range r.sends {
				for _, id := range call {
					times[id]++
				}
			}
			twice := 0
			for id, n := range times {
				if n == 2 {
					twice++
				} else if n != 1 {
					t.Errorf("%s was sent %d times", id, n)
				}
			}
			if twice != 1 || len(r.sent) != 10 {
				t.Errorf("sent twice %d, confirmed %d, dead %v", twice, len(r.sent), dead)
			}
		})
	})

	t.Run("E5 answers of a driver that make no sense fail the batch, a panic too", func(t *testing.T) {
		for name, answer := range map[string]func() error{
			"no entry":     func() error { return &driver.BatchError{} },
			"out of range": func() error { return &driver.BatchError{Failed: []driver.Failure{{Index: 7, Err: errors.New("x")}}} },
			"no cause":     func() error { return &driver.BatchError{Failed: []driver.Failure{{Index: 0}}} },
			"panic":        func() error { panic("driver") },
		} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				r.send = func(context.Context, []driver.Bag) error { return answer() }
				q := endpoint(t, r, swarm.WithRetryConstant(time.Millisecond, 2))
				err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1})
				if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 2 {
					t.Errorf("%s: got %v", name, err)
				}
				q.Close()
			})
		}
	})

	t.Run("E6 Enq ends with its context, withdrawn when no request carries it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.limits.Requests = 1
			release := make(chan struct{})
			r.send = func(context.Context, []driver.Bag) error { <-release; return nil }
			q := endpoint(t, r, swarm.WithNetworkTimeout(time.Hour))
			notes := emit.NewTyped[Note](q)
			go notes.Enq(context.Background(), Note{0})
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := notes.Enq(ctx, Note{1}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if err := notes.Enq(ctx, Note{2}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			close(release)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if len(r.sent) != 1 {
				t.Errorf("sent %v", bodies(r.sent))
			}
		})
	})

	t.Run("EM5 EM6 E7 what cannot be encoded is dead, what panics too, the next is sent", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			stderr := make(chan error, 10)
			q := endpoint(t, r, swarm.WithStdErr(stderr))
			enq, dlq := emit.Typed[Odd](q)
			enq <- Odd{F: math.NaN()}
			if v := <-dlq; !math.IsNaN(v.F) {
				t.Errorf("got %v", v)
			}
			enq <- Odd{Panic: true}
			<-dlq
			enq <- Odd{F: 1}
			close(enq)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if len(r.sent) != 1 || len(stderr) != 2 {
				t.Errorf("sent %d, errors %d", len(r.sent), len(stderr))
			}
			for range 2 {
				if e, ok := errors.AsType[*swarm.EmitError](<-stderr); !ok || e.Attempts != 0 || e.Category != "Odd" {
					t.Errorf("got %v", e)
				}
			}
			sync := emit.NewTyped[Odd](q)
			if err := sync.Enq(t.Context(), Odd{Panic: true}); err == nil {
				t.Error("got nil from an encoder that panics")
			}
		})
	})

	t.Run("EM7 EM8 E8 values that are ready together travel together", func(t *testing.T) {
		for _, x := range []struct {
			name           string
			lanes, callers int
			window         int
			most           float64 // requests a message
		}{
			{"one lane, window 100", 1, 0, 100, 0.11},
			{"one lane, window 10", 1, 0, 10, 0.11},
			{"ten lanes, window 1", 10, 0, 1, 0.12},
			{"100 synchronous callers", 0, 100, 1, 0.11},
		} {
			bubble(t, func(t *testing.T) {
				r := newRig()
				r.latency = 5 * time.Millisecond
				q := endpoint(t, r, swarm.WithEmitWindow(x.window))
				const total = 2000
				var producers sync.WaitGroup
				for l := range x.lanes {
					enq, _ := emit.Typed[Note](q, emit.Category(fmt.Sprint("lane", l)))
					producers.Go(func() {
						for i := range total / x.lanes {
							enq <- Note{i}
						}
						close(enq)
					})
				}
				one := emit.NewTyped[Note](q)
				for range x.callers {
					producers.Go(func() {
						for i := range total / x.callers {
							if err := one.Enq(t.Context(), Note{i}); err != nil {
								t.Error(err)
							}
						}
					})
				}
				producers.Wait()
				if err := q.Close(); err != nil {
					t.Error(err)
				}
				if ratio := float64(len(r.sends)) / total; ratio > x.most || len(r.sent) != total {
					t.Errorf("%s: %.3f requests a message, want %.2f; sent %d", x.name, ratio, x.most, len(r.sent))
				}
			})
		}
	})

	t.Run("E8 a lone value is not delayed", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			q := endpoint(t, newRig(), swarm.WithLinger(time.Hour))
			began := time.Now()
			if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("took %s", took)
			}
			q.Close()
		})
	})

	t.Run("E8 a hung request does not hold up another lane", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.send = func(ctx context.Context, bags []driver.Bag) error {
				if bags[0].Category == "User" {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			q := endpoint(t, r, swarm.WithNetworkTimeout(time.Minute), swarm.WithNoRetry())
			users := emit.NewTyped[User](q)
			go users.Enq(context.Background(), User{"hung"})
			synctest.Wait()
			began := time.Now()
			if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 5*time.Millisecond {
				t.Errorf("took %s", took)
			}
			time.Sleep(time.Minute)
			q.Close()
		})
	})

	t.Run("E8 a request keeps the byte limit, and one value above it is refused before the call", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.latency = time.Millisecond
			r.limits.Bytes = 50
			r.send = func(_ context.Context, bags []driver.Bag) error {
				sum := 0
				for _, b := range bags {
					sum += len(b.Body)
				}
				if sum > 50 {
					t.Errorf("request of %d bytes", sum)
				}
				return nil
			}
			q := endpoint(t, r, swarm.WithEmitWindow(30))
			enq, _ := emit.Bytes(q, codec.Bytes("Image"))
			for i := range 30 {
				enq <- make([]byte, i+1)
			}
			big := emit.NewBytes(q, codec.Bytes("Image"))
			err := big.Enq(t.Context(), make([]byte, 51))
			if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 0 || !driver.IsPermanent(err) || !strings.Contains(err.Error(), "51 bytes") {
				t.Errorf("got %v", err)
			}
			close(enq)
			if err := q.Close(); err != nil || len(r.sent) != 30 {
				t.Errorf("%v, sent %d", err, len(r.sent))
			}
		})
	})

	t.Run("EM12 Check of the broker refuses before the call", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			r.limits.Check = func(b *driver.Bag) error {
				if len(b.Body) == 0 {
					return errors.New("body is empty")
				}
				return nil
			}
			q := endpoint(t, r)
			enq, dlq := emit.Bytes(q, codec.Bytes("Image"))
			enq <- nil
			if v := <-dlq; v != nil || len(r.sends) != 0 {
				t.Errorf("got %v after %d calls", v, len(r.sends))
			}
			close(enq)
			q.Close()
		})
	})

	t.Run("EM14 EM15 events keep the sender's metadata, and the sender keeps his", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r, swarm.WithSource("agent"), swarm.WithRealm("blue"))
			one, _ := emit.Event[UserEvent](q)
			two, _ := emit.Event[UserEvent](q)
			meta := &Meta{Meta: swarm.Meta{ID: "request-42", Type: "urn:x"}, About: "x"}
			before := *meta
			one <- UserEvent{Meta: meta, Data: &User{"a"}}
			two <- UserEvent{Meta: meta, Data: &User{"b"}}
			one <- UserEvent{Data: &User{"c"}}
			close(one)
			close(two)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if !reflect.DeepEqual(*meta, before) {
				t.Errorf("the sender's meta has changed: %v", *meta)
			}
			for _, b := range r.sent {
				var e UserEvent
				if err := json.Unmarshal(b.Body, &e); err != nil {
					t.Fatal(err)
				}
				if e.Meta.Agent != "agent" || e.Meta.Realm != "blue" || e.Meta.Created.IsZero() || b.ID != e.Meta.ID || b.Category != "User" || b.Source != "agent" {
					t.Errorf("got %+v in %+v", e.Meta, b)
				}
				if e.Data.Name == "c" {
					if e.Meta.Type != "User" || e.Meta.ID == "" || e.Meta.ID == "request-42" {
						t.Errorf("got %+v", e.Meta)
					}
				} else if e.Meta.ID != "request-42" || e.Meta.Type != "urn:x" || e.Meta.About != "x" {
					t.Errorf("got %+v", e.Meta)
				}
			}
		})
	})

	t.Run("an event without meta and data is refused", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			q := endpoint(t, newRig())
			if err := emit.NewEvent[UserEvent](q).Enq(t.Context(), UserEvent{}); err == nil {
				t.Error("got nil")
			}
			q.Close()
		})
	})

	t.Run("EM16 EM17 bytes are copied when they are encoded", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			image := emit.NewBytes(q, codec.Bytes("Image"))
			buf := []byte("first")
			if err := image.Enq(t.Context(), buf); err != nil {
				t.Error(err)
			}
			copy(buf, "XXXXX")
			q.Close()
			if got := string(r.sent[0].Body); got != "first" {
				t.Errorf("got %q", got)
			}
			// Differs on purpose for channels: a value sent on a channel belongs to
			// swarm, since it is encoded after the send has returned.
		})
	})

	t.Run("ids are unique and stay the same over retries", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			var ids []string
			r.send = func(_ context.Context, bags []driver.Bag) error {
				ids = append(ids, bags[0].ID)
				if len(ids)%2 == 1 {
					return errors.New("again")
				}
				return nil
			}
			q := endpoint(t, r)
			enq, _ := emit.Typed[Note](q)
			for i := range 100 {
				enq <- Note{i}
			}
			close(enq)
			q.Close()
			seen := map[string]bool{}
			for i := 0; i < len(ids); i += 2 {
				if ids[i] != ids[i+1] || seen[ids[i]] {
					t.Errorf("ids %s, %s", ids[i], ids[i+1])
				}
				seen[ids[i]] = true
			}
		})
	})

	t.Run("options: category, codec, keys", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig()
			q := endpoint(t, r)
			enq, _ := emit.Typed[Note](q,
				emit.Category("Memo"),
				emit.Codec[Note](upper{}),
				emit.OrderBy(func(n Note) string { return fmt.Sprint("o", n.ID) }),
				emit.DedupBy(func(n Note) string { return fmt.Sprint("d", n.ID) }))
			enq <- Note{7}
			close(enq)
			q.Close()
			if b := r.sent[0]; b.Category != "Memo" || string(b.Body) != "NOTE 7" || b.Group != "o7" || b.Dedup != "d7" {
				t.Errorf("got %+v", b)
			}
		})
	})

	t.Run("mistakes in the program are panics at wiring that name them", func(t *testing.T) {
		q := endpoint(t, newRig())
		defer q.Close()
		for _, x := range []struct {
			name, want string
			f          func()
		}{
			{"nil kernel", "nil kernel", func() { emit.Typed[Note](nil) }},
			{"unnamed type", "[]kernel_test.Note", func() { emit.Typed[[]Note](q) }},
			{"any", "explicit category", func() { emit.Typed[any](q) }},
			{"empty category", "Category", func() { emit.Typed[Note](q, emit.Category("")) }},
			{"key of another type", "OrderBy", func() { emit.Typed[Note](q, emit.OrderBy(func(User) string { return "" })) }},
			{"codec of another type", "Codec", func() { emit.Typed[User](q, emit.Codec[Note](upper{})) }},
			{"nil codec", "nil", func() { emit.Bytes(q, nil) }},
			{"empty bytes category", "category", func() { codec.Bytes("") }},
			{"nil func", "OnFailure", func() { emit.OnFailure[Note](nil) }},
			{"OnFailure of Enq", "OnFailure", func() { emit.NewTyped[Note](q, emit.OnFailure(func(Note, error) {})) }},
		} {
			func() {
				defer func() {
					if p := fmt.Sprint(recover()); !strings.Contains(p, x.want) {
						t.Errorf("%s: got panic %q, want it to name %q", x.name, p, x.want)
					}
				}()
				x.f()
			}()
		}
	})
}

// Odd cannot always be encoded.
type Odd struct {
	F     float64
	Panic bool
}

func (o Odd) MarshalJSON() ([]byte, error) {
	if o.Panic {
		panic("no way")
	}
	return json.Marshal(o.F)
}

type Meta struct {
	swarm.Meta
	About string `json:"about,omitempty"`
}

type UserEvent = swarm.Event[Meta, User]

// upper is a codec of the user's own.
type upper struct{}

func (upper) Category() string              { return "Note" }
func (upper) Encode(n Note) ([]byte, error) { return fmt.Appendf(nil, "NOTE %d", n.ID), nil }
func (upper) Decode(b []byte) (n Note, err error) {
	_, err = fmt.Sscanf(string(b), "NOTE %d", &n.ID)
	return n, err
}
