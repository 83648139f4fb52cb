package qtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
)

// emitCases send through a kernel.
var emitCases = []Case{
	{"E1", "order: values sent on one channel reach the broker in that order", []need{emits}, emitOrder},
	{"E1", "groups: values of one group stay in order, whatever fails", []need{emits, ordered}, emitGroups},
	{"E1", "groups: at most one entry of a group is in flight", []need{emits, ordered}, emitOneOfGroup},

	{"E2", "kinds: values, events and bytes arrive as they were encoded", []need{emits}, emitKinds},
	{"E2", "window: no more values are accepted than may be unconfirmed", []need{emits}, emitWindow},
	{"E2", "delayed guarantee: after a failure the next send waits for dlq to be read", []need{emits}, emitDelayed},
	{"E2", "dlq: has what was refused for good, the cause is reported, the lane goes on", []need{emits}, emitDeadLetter},

	{"E3", "at most once: a send waits for buffer space only", []need{emits}, emitAtMostOnce},
	{"E3", "at most once: a failure goes to dlq, or is dropped and reported", []need{emits}, emitDropped},

	{"E4", "accounting: a value is confirmed, on dlq or reported, whatever Close interrupts", []need{emits}, emitAccounting},
	{"E4", "accounting: thousands of values of many channels arrive, each once", []need{emits}, emitBulk},

	{"E5", "retry: what fails for now is sent again, the rest of its batch is not", []need{emits}, emitRetry},
	{"E5", "retry: attempts and delays are those of the policy", []need{emits}, emitPolicy},
	{"E5", "retry: what is refused for good is not sent again", []need{emits}, emitPermanent},
	{"E5", "retry: what is too large is not sent at all, its neighbours arrive", []need{emits, maxSize}, emitOversize},

	{"E6", "sync: nil means that the broker has accepted, an error says why not", []need{emits}, syncEnq},
	{"E6", "sync: refused after Close", []need{emits}, syncClosed},
	{"E6", "sync: ends with its context", []need{emits}, syncCancelled},

	{"E7", "encode: a value that cannot be encoded goes to dlq, the next is not affected", []need{emits}, emitEncode},

	{"E8", "batching: values that are ready together travel together", []need{emits}, emitBatch},
	{"E8", "batching: no request exceeds the limits of the broker", []need{emits}, emitLimits},
	{"E8", "batching: a lone value does not wait for others", []need{emits}, emitLone},
	{"E8", "batching: a hung request does not hold up another channel", []need{emits}, emitHung},
}

var (
	errNow  = errors.New("qtest: refused for now")
	errGood = driver.Permanent(errors.New("qtest: refused for good"))
)

// refuseTimes refuses the texts, each as often as it says.
func refuseTimes(times map[string]int, cause error) func(driver.Bag) error {
	var mu sync.Mutex
	return func(bag driver.Bag) error {
		mu.Lock()
		defer mu.Unlock()
		text := textOf(bag.Body)
		if times[text] == 0 {
			return nil
		}
		times[text]--
		return cause
	}
}

// always is more often than any retry policy.
const always = math.MaxInt

// hold makes calls wait until it is closed.
type hold chan struct{}

func (h hold) wait(ctx context.Context) error {
	select {
	case <-h:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h hold) send(ctx context.Context, _ []driver.Bag) error { return h.wait(ctx) }

// patient keeps the kernel from giving up a call that a case holds.
func (r *rig) patient() swarm.Option { return swarm.WithNetworkTimeout(5 * r.Patience) }

func emitOrder(r *rig) {
	s := r.spy()
	s.refuseSend = refuseTimes(map[string]int{"order-3": 1, "order-4": 2, "order-17": 1}, errNow)
	k := r.emitter(s)
	enq, _ := emit.Typed[note](k)
	closeAtEnd(r, enq)
	want := names("order", 25)
	for _, text := range want {
		send(r, enq, note{text})
	}
	got := textsOf(r.arrivals(len(want)))
	// The last one may arrive before its sender has the answer.
	r.eventually("all are confirmed", func() bool { return len(s.accepted()) >= len(want) })
	r.inOrder("accepted by the broker", s.accepted(), want)
	if r.Ordered {
		r.inOrder("arrived", got, want)
	} else {
		r.sameText("arrived", got, want)
	}
}

func emitGroups(r *rig) {
	s := r.spy()
	s.refuseSend = refuseTimes(map[string]int{"a-3": 1, "b-1": 2, "a-7": 3}, errNow)
	k := r.emitter(s, swarm.WithEmitWindow(20))
	enq, _ := emit.Typed[note](k, emit.OrderBy(groupOf))
	closeAtEnd(r, enq)
	a, b := names("a", 10), names("b", 10)
	for i := range a {
		send(r, enq, note{a[i]})
		send(r, enq, note{b[i]})
	}
	got := textsOf(r.arrivals(len(a) + len(b)))
	if s.limits.GroupBatches {
		r.sameText("arrived", got, slices.Concat(a, b))
		return
	}
	for _, want := range [][]string{a, b} {
		r.inOrder("one group", ofTextGroup(got, groupOf(note{want[0]})), want)
	}
}

// groupOf a note named "<group>-<n>".
func groupOf(n note) string {
	group, _, _ := strings.Cut(n.Text, "-")
	return group
}

func ofTextGroup(texts []string, group string) []string {
	return slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return groupOf(note{text}) != group })
}

func emitOneOfGroup(r *rig) {
	s := r.spy()
	s.onSend = func(ctx context.Context, _ []driver.Bag) error {
		pause(ctx, 5*time.Millisecond)
		return nil
	}
	k := r.emitter(s, swarm.WithEmitWindow(30))
	enq, _ := emit.Typed[note](k, emit.OrderBy(groupOf))
	closeAtEnd(r, enq)
	var want []string
	for i := range 8 {
		want = append(want, fmt.Sprintf("a-%d", i), fmt.Sprintf("b-%d", i), fmt.Sprintf("c-%d", i))
	}
	for _, text := range want {
		send(r, enq, note{text})
	}
	r.sameText("arrived", textsOf(r.arrivals(len(want))), want)
	if s.limits.GroupBatches {
		return
	}
	if s.overlaps > 0 {
		r.Errorf("a group had two entries in flight %d times", s.overlaps)
	}
}

type (
	user     struct{ ID string }
	userMeta struct {
		swarm.Meta
		About string `json:"about"`
	}
	userEvent = swarm.Event[userMeta, user]
)

// hostile is what no text transport takes as it is.
const hostile = "\x00\x01 \xff\xfe\x80 \ufffe \r\n"

func emitKinds(r *rig) {
	s := r.spy()
	k := r.emitter(s)
	values, _ := r.lane(k)
	events, _ := emit.Event[userEvent](k)
	closeAtEnd(r, events)
	blobs, _ := emit.Bytes(k, codec.Bytes("Image"))
	closeAtEnd(r, blobs)

	send(r, values, note{"value"})
	send(r, events, userEvent{Meta: &userMeta{About: "me"}, Data: &user{ID: "42"}})
	send(r, blobs, []byte(hostile))

	by := map[string]driver.Bag{}
	for _, bag := range r.arrivals(3) {
		by[bag.Category] = bag
	}
	if got := by["note"]; string(got.Body) != `{"text":"value"}` {
		r.Errorf("value: got %q", got.Body)
	}
	if got := by["Image"]; string(got.Body) != hostile {
		r.Errorf("bytes: got %q, want %q", got.Body, hostile)
	}
	if got := by["note"]; r.KeepSource && got.Source != "qtest" {
		r.Errorf("source: got %q, want that of WithSource", got.Source)
	}
	var got userEvent
	if err := json.Unmarshal(by["user"].Body, &got); err != nil || got.Meta == nil || got.Data == nil {
		r.Fatalf("event: got %q: %v", by["user"].Body, err)
	}
	meta := got.Meta
	if got.Data.ID != "42" || meta.About != "me" || meta.Type != "user" || meta.Agent != "qtest" || meta.ID == "" || meta.Created.IsZero() {
		r.Errorf("event: got %s", by["user"].Body)
	}
	if r.KeepID && by["user"].ID != meta.ID {
		r.Errorf("event: the message has the ID %q, the event %q", by["user"].ID, meta.ID)
	}
}

func emitWindow(r *rig) {
	for _, window := range []int{1, 4} {
		s := r.spy()
		held := make(hold)
		s.onSend = held.send
		k := r.emitter(s, swarm.WithEmitWindow(window), r.patient())
		enq, _ := r.lane(k)
		want := names(fmt.Sprintf("window%d", window), 12)
		var accepted atomic.Int64
		r.produce(func() {
			for _, text := range want {
				if !offer(r, enq, note{text}, 2*r.Patience) {
					return
				}
				accepted.Add(1)
			}
		})
		r.eventually("the window is full", func() bool { return accepted.Load() >= int64(window) })
		pause(r.Context(), r.moment())
		if n := accepted.Load(); n > int64(window) {
			r.Errorf("%d values are accepted and not confirmed, the window is %d", n, window)
		}
		close(held)
		r.sameText("arrived", textsOf(r.arrivals(len(want))), want)
	}
}

func emitDelayed(r *rig) {
	s := r.spy()
	s.refuseSend = refuseTimes(map[string]int{"a": always}, errGood)
	k := r.emitter(s)
	enq, dlq := r.lane(k)
	send(r, enq, note{"a"})
	if offer(r, enq, note{"early"}, r.moment()) {
		r.Errorf("the next send did not wait for the failed value to be taken from dlq")
	}
	if got := take(r, "dlq", dlq); got.Text != "a" {
		r.Errorf("dlq: got %q, want %q", got.Text, "a")
	}
	send(r, enq, note{"b"})
	r.sameText("arrived", textsOf(r.arrivals(1)), []string{"b"})
}

func emitDeadLetter(r *rig) {
	s := r.spy()
	s.refuseSend = refuseTimes(map[string]int{"dead-1": always, "dead-3": always}, errGood)
	k := r.emitter(s)
	var told journal
	enq, dlq := r.lane(k, emit.OnFailure(func(n note, err error) { told.add(n.Text) }))
	want := names("dead", 5)
	r.produce(func() {
		for _, text := range want {
			offer(r, enq, note{text}, r.Patience)
		}
	})
	dead := []string{take(r, "dlq", dlq).Text, take(r, "dlq", dlq).Text}
	r.sameText("dlq", dead, []string{"dead-1", "dead-3"})
	r.sameText("arrived", textsOf(r.arrivals(3)), []string{"dead-0", "dead-2", "dead-4"})
	r.sameText("OnFailure", told.all(), dead)
	for _, e := range reports(k.probe, 2, "EmitError", func(*swarm.EmitError) bool { return true }) {
		if e.Category != "note" || e.ID == "" || e.Attempts != 1 || !errors.Is(e, driver.ErrPermanent) {
			r.Errorf("got %v of %q after %d attempts, want the broker's cause of a note after 1", e, e.ID, e.Attempts)
		}
	}
}

func emitAtMostOnce(r *rig) {
	s := r.spy()
	held := make(hold)
	s.onSend = held.send
	const n = 5
	k := r.emitter(s, swarm.WithPolicyAtMostOnce(n), r.patient())
	enq, _ := r.lane(k)
	want := names("buffered", n)
	for _, text := range want {
		if !offer(r, enq, note{text}, r.moment()) {
			r.Fatalf("the send of %s has waited for the broker, the buffer has room for %d", text, n)
		}
	}
	close(held)
	r.sameText("arrived", textsOf(r.arrivals(n)), want)
}

func emitDropped(r *rig) {
	s := r.spy()
	s.refuseSend = func(driver.Bag) error { return errGood }
	const room, n = 2, 20
	k := r.emitter(s, swarm.WithPolicyAtMostOnce(room))
	enq, dlq := r.lane(k)
	for _, text := range names("dropped", n) {
		send(r, enq, note{text}) // nobody reads dlq
	}
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	dead := len(ends(r, "dlq", dlq))
	if dead != room {
		r.Errorf("dlq: got %d values, it has room for %d", dead, room)
	}
	dropped := 0
	r.eventually("what was dropped is reported", func() bool {
		dropped = 0
		for _, err := range k.errors() {
			if e, ok := errors.AsType[*swarm.CountError](err); ok && errors.Is(e, swarm.ErrDropped) {
				dropped += e.Count
			}
		}
		return dropped >= n-dead
	})
	if dropped != n-dead {
		r.Errorf("%d of %d on dlq, %d reported as dropped", dead, n, dropped)
	}
}

func emitAccounting(r *rig) {
	s := r.spy()
	s.onSend = func(ctx context.Context, bags []driver.Bag) error {
		pause(ctx, time.Duration(1+len(bags)%3)*time.Millisecond)
		return nil
	}
	s.refuseSend = func(bag driver.Bag) error {
		if strings.HasSuffix(textOf(bag.Body), "7") {
			return errGood
		}
		return nil
	}
	k := r.emitter(s, swarm.WithEmitWindow(4), swarm.WithEmitCapacity(3))
	var accepted, dead atomic.Int64
	var readers sync.WaitGroup
	for lane := range 3 {
		enq, dlq := emit.Typed[note](k, emit.Category(fmt.Sprintf("note%d", lane)))
		closeAtEnd(r, enq)
		readers.Go(func() {
			for range dlq {
				dead.Add(1)
			}
		})
		r.produce(func() {
			// Some values more than the kernel takes.
			for i, after := 0, 0; after < 5; i++ {
				if !offer(r, enq, note{fmt.Sprintf("lane%d-%d", lane, i)}, r.Patience) {
					r.Errorf("a send hangs")
					return
				}
				accepted.Add(1)
				if isClosed(k.Done()) {
					after++
				}
			}
		})
	}
	r.within(r.late(), func() bool { return dead.Load() >= 3 })
	err := k.close()
	var left swarm.DrainError
	if e, ok := errors.AsType[*swarm.DrainError](err); ok {
		left = *e
	}
	r.producers.Wait()
	readers.Wait()
	confirmed := int64(len(s.accepted()))
	sum := func() int64 { return confirmed + dead.Load() + int64(left.Undelivered) + k.refused.Load() }
	r.within(r.Patience, func() bool { return sum() >= accepted.Load() })
	if sum() != accepted.Load() || left.Undelivered > 0 {
		r.Errorf("%d values were accepted: %d confirmed, %d on dlq, %d refused, %d left (%v)",
			accepted.Load(), confirmed, dead.Load(), k.refused.Load(), left.Undelivered, err)
	}
	if dead.Load() == 0 || confirmed == 0 || k.refused.Load() == 0 {
		r.Errorf("%d confirmed, %d on dlq, %d refused: none of them should be 0", confirmed, dead.Load(), k.refused.Load())
	}
	got := textsOf(r.arrivals(int(confirmed)))
	r.sameText("arrived", got, s.accepted())
}

func emitBulk(r *rig) {
	const lanes = 4
	each := (r.Messages + lanes - 1) / lanes
	k := r.emitter(r.spy(), swarm.WithEmitWindow(100))
	var want []string
	for i := range lanes {
		enq, _ := r.lane(k)
		texts := names(fmt.Sprintf("bulk%d", i), each)
		want = append(want, texts...)
		r.produce(func() {
			for _, text := range texts {
				if !offer(r, enq, note{text}, r.Patience) {
					r.Errorf("a send hangs")
					return
				}
			}
		})
	}
	r.sameText("arrived", textsOf(r.arrivals(len(want))), want)
	r.stragglers("more than was sent")
	r.sameText("not delivered", undelivered(k.errors()), nil)
}

// undelivered are the causes of all values that were not delivered.
func undelivered(errs []error) []string {
	var all []string
	for _, err := range errs {
		if e, ok := errors.AsType[*swarm.EmitError](err); ok {
			all = append(all, e.Error())
		}
	}
	return all
}

// together sends values by concurrent synchronous callers while a first request is
// held, so that the values wait for one another; it answers when all are accepted.
func (r *rig) together(k emitter, held hold, texts []string) {
	r.Helper()
	user := emit.NewTyped[note](k, r.apart()...)
	var callers sync.WaitGroup
	enq := func(text string) {
		callers.Go(func() {
			if err := user.Enq(r.Context(), note{text}); err != nil {
				r.Errorf("Enq of %s: %v", text, err)
			}
		})
	}
	enq("first")
	r.eventually("the first request is on its way", func() bool { return len(k.spy.sent()) > 0 })
	for _, text := range texts {
		enq(text)
	}
	pause(r.Context(), r.moment())
	close(held)
	callers.Wait()
}

// apart puts each note into a group of its own, on a broker that keeps order.
func (r *rig) apart() []emit.Option {
	if !r.Ordered {
		return nil
	}
	return []emit.Option{emit.OrderBy(func(n note) string { return n.Text })}
}

// linger is longer than any case takes to have its values ready.
func (r *rig) linger() swarm.Option { return swarm.WithLinger(5 * r.Patience) }

func emitRetry(r *rig) {
	s := r.spy()
	held := make(hold)
	s.onSend = held.send
	s.refuseSend = refuseTimes(map[string]int{"retry-1": 1, "retry-4": 2}, errNow)
	k := r.emitter(s, r.patient(), r.linger())
	want := names("retry", 8)
	r.together(k, held, want)
	tries := map[string]int{}
	for _, note := range s.sent() {
		tries[textOf(note.bag.Body)]++
	}
	for _, text := range want {
		times := 1
		switch text {
		case "retry-1":
			times = 2
		case "retry-4":
			times = 3
		}
		if tries[text] != times {
			r.Errorf("%s was sent %d times, want %d", text, tries[text], times)
		}
	}
	r.sameText("arrived", textsOf(r.arrivals(9)), append(want, "first"))
	r.stragglers("more than was sent")
}

func emitPolicy(r *rig) {
	delay := backoff.Linear(100 * time.Millisecond)
	for _, attempts := range []int{1, 4} {
		s := r.spy()
		s.refuseSend = func(driver.Bag) error { return errNow }
		k := r.emitter(s, swarm.WithRetry(backoff.Policy{Attempts: attempts, Delay: delay}))
		enq, dlq := r.lane(k)
		send(r, enq, note{"never"})
		take(r, "dlq", dlq)
		ended := time.Now()
		sent := s.sent()
		if len(sent) != attempts {
			r.Fatalf("sent %d times, the policy says %d", len(sent), attempts)
		}
		for i := 1; i < attempts; i++ {
			took, want := sent[i].at.Sub(sent[i-1].at), delay(i)
			if took < want || took > want+r.late() {
				r.Errorf("attempt %d came %s after the one before, the policy says %s", i+1, took, want)
			}
		}
		if took := ended.Sub(sent[attempts-1].at); r.Virtual && took >= delay(attempts) {
			r.Errorf("the last attempt was followed by a delay of %s", took)
		}
		e := reports(k.probe, 1, "EmitError", func(*swarm.EmitError) bool { return true })[0]
		if e.Attempts != attempts || !errors.Is(e, errNow) {
			r.Errorf("got %v, want the broker's cause after %d attempts", e, attempts)
		}
	}
}

func emitPermanent(r *rig) {
	s := r.spy()
	s.refuseSend = func(driver.Bag) error { return errGood }
	k := r.emitter(s)
	enq, dlq := r.lane(k)
	send(r, enq, note{"refused"})
	take(r, "dlq", dlq)
	if n := len(s.sent()); n != 1 {
		r.Errorf("sent %d times, want once", n)
	}
	err := emit.NewTyped[note](k, r.apart()...).Enq(r.Context(), note{"refused-too"})
	if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 1 || !errors.Is(err, driver.ErrPermanent) {
		r.Errorf("Enq: got %v, want a *swarm.EmitError after 1 attempt", err)
	}
}

func emitOversize(r *rig) {
	s := r.spy()
	held := make(hold)
	s.onSend = held.send
	k := r.emitter(s, r.patient(), r.linger())
	blobs, dlq := emit.Bytes(k, codec.Bytes("blob"))
	closeAtEnd(r, blobs)
	send(r, blobs, []byte(strings.Repeat("x", r.MaxSize+1)))
	if got := take(r, "dlq", dlq); len(got) != r.MaxSize+1 {
		r.Errorf("dlq: got %d bytes", len(got))
	}
	r.together(k, held, names("small", 3))
	r.sameText("arrived", textsOf(r.arrivals(4)), append(names("small", 3), "first"))
	e := reports(k.probe, 1, "EmitError", func(*swarm.EmitError) bool { return true })[0]
	if e.Category != "blob" || e.Attempts != 0 || !errors.Is(e, driver.ErrPermanent) {
		r.Errorf("got %v, want a permanent error of the blob after 0 attempts", e)
	}
}

func syncEnq(r *rig) {
	s := r.spy()
	s.refuseSend = func(bag driver.Bag) error {
		switch textOf(bag.Body) {
		case "never":
			return errNow
		case "refused":
			return errGood
		}
		return nil
	}
	k := r.emitter(s, swarm.WithRetryConstant(time.Millisecond, 3))
	user := emit.NewTyped[note](k, r.apart()...)
	for i, text := range names("sync", 3) {
		if err := user.Enq(r.Context(), note{text}); err != nil {
			r.Fatalf("Enq: %v", err)
		}
		if got := len(s.accepted()); got != i+1 {
			r.Fatalf("Enq has returned nil, the broker has accepted %d of %d values", got, i+1)
		}
	}
	for text, attempts := range map[string]int{"never": 3, "refused": 1} {
		err := user.Enq(r.Context(), note{text})
		e, ok := errors.AsType[*swarm.EmitError](err)
		if !ok || e.Attempts != attempts || e.Category != "note" {
			r.Errorf("Enq of %s: got %v, want a *swarm.EmitError of a note after %d attempts", text, err, attempts)
		}
	}
	r.sameText("arrived", textsOf(r.arrivals(3)), names("sync", 3))
}

func syncClosed(r *rig) {
	s := r.spy()
	k := r.emitter(s)
	user := emit.NewTyped[note](k, r.apart()...)
	if err := user.Enq(r.Context(), note{"before"}); err != nil {
		r.Fatalf("Enq: %v", err)
	}
	if err := k.close(); err != nil {
		r.Fatalf("Close: %v", err)
	}
	if err := user.Enq(r.Context(), note{"after"}); !errors.Is(err, swarm.ErrClosed) {
		r.Errorf("Enq after Close: got %v, want %v", err, swarm.ErrClosed)
	}
	r.sameText("arrived", textsOf(r.arrivals(1)), []string{"before"})
	r.stragglers("refused after Close")
}

func syncCancelled(r *rig) {
	s := r.spy()
	held := make(hold)
	s.onSend = held.send
	k := r.emitter(s, r.patient())
	user := emit.NewTyped[note](k, r.apart()...)
	ctx, cancel := context.WithCancel(r.Context())
	var err error
	done := make(chan struct{})
	go func() { defer close(done); err = user.Enq(ctx, note{"given-up"}) }()
	r.eventually("the request is on its way", func() bool { return len(s.sent()) > 0 })
	cancel()
	r.promptly("Enq, when its context ends", func() { <-done })
	if !errors.Is(err, context.Canceled) {
		r.Errorf("Enq: got %v, want %v", err, context.Canceled)
	}
	if err := user.Enq(ctx, note{"too-late"}); !errors.Is(err, context.Canceled) {
		r.Errorf("Enq with an ended context: got %v, want %v", err, context.Canceled)
	}
	close(held)
	if err := user.Enq(r.Context(), note{"next"}); err != nil {
		r.Errorf("the next Enq: %v", err)
	}
	got := textsOf(r.arrivals(2))
	r.sameText("arrived", got, []string{"given-up", "next"})
	r.stragglers("withdrawn")
}

// fussy is a codec that fails on demand.
type fussy struct{ codec.Codec[note] }

func newFussy() fussy { return fussy{codec.JSON[note]("")} }

func (c fussy) Encode(n note) ([]byte, error) {
	if err := fuss(n.Text); err != nil {
		return nil, err
	}
	return c.Codec.Encode(n)
}

func (c fussy) Decode(body []byte) (note, error) {
	if err := fuss(textOf(body)); err != nil {
		return note{}, err
	}
	return c.Codec.Decode(body)
}

func fuss(text string) error {
	switch text {
	case "panics":
		panic("qtest: codec panics on purpose")
	case "fails":
		return errors.New("qtest: codec fails on purpose")
	}
	return nil
}

func emitEncode(r *rig) {
	s := r.spy()
	k := r.emitter(s)
	enq, dlq := r.lane(k, emit.Codec[note](newFussy()))
	for i, text := range []string{"fails", "panics"} {
		send(r, enq, note{text})
		if got := take(r, "dlq", dlq); got.Text != text {
			r.Errorf("dlq: got %q, want %q", got.Text, text)
		}
		send(r, enq, note{fmt.Sprintf("next-%d", i)})
	}
	r.sameText("arrived", textsOf(r.arrivals(2)), names("next", 2))
	for _, e := range reports(k.probe, 2, "EmitError", func(*swarm.EmitError) bool { return true }) {
		if e.Attempts != 0 || e.Category != "note" {
			r.Errorf("got %v, want a note after 0 attempts", e)
		}
	}
	if n := len(s.sent()); n != 2 {
		r.Errorf("%d entries were sent, want the 2 good ones", n)
	}
}

func emitBatch(r *rig) {
	s := r.spy()
	held := make(hold)
	s.onSend = held.send
	k := r.emitter(s, r.patient(), r.linger())
	batch := s.limits.Entries
	texts := names("batch", 2*batch)
	r.together(k, held, texts)
	calls := map[int]int{}
	for _, note := range s.sent() {
		calls[note.call]++
	}
	if want := 1 + 2; len(calls) != want {
		r.Errorf("%d values took %d requests, want %d of up to %d", 1+len(texts), len(calls), want, batch)
	}
	r.sameText("arrived", textsOf(r.arrivals(1+len(texts))), append(texts, "first"))
}

func emitLimits(r *rig) {
	size := r.connect().limits.Size
	texts := names("limited", 20)
	most := 0
	for _, text := range texts {
		bag := r.note(text)
		most = max(most, size(&bag))
	}
	const entries = 5
	for _, bytes := range []int{0, 2*most + most/2 + 100} { // the kernel's own IDs are longer
		s := r.spy()
		s.change = func(l *driver.Limits) {
			l.Entries = min(entries, l.Entries)
			if bytes > 0 {
				l.Bytes = bytes
			}
		}
		held := make(hold)
		s.onSend = held.send
		k := r.emitter(s, r.patient(), r.linger())
		r.together(k, held, texts)
		r.sameText("arrived", textsOf(r.arrivals(1+len(texts))), append(texts, "first"))
		count, total := map[int]int{}, map[int]int{}
		for _, note := range s.sent() {
			count[note.call]++
			total[note.call] += size(&note.bag)
		}
		for call := range count {
			if count[call] > entries || bytes > 0 && total[call] > bytes {
				r.Errorf("a request had %d entries and %d bytes, the limits are %d and %d", count[call], total[call], entries, bytes)
			}
		}
	}
}

func emitLone(r *rig) {
	s := r.spy()
	k := r.emitter(s, r.linger())
	enq, _ := r.lane(k)
	for i, text := range names("lone", 3) {
		start := time.Now()
		send(r, enq, note{text})
		r.eventually("the value is sent", func() bool { return len(s.accepted()) == i+1 })
		if took := s.sent()[i].at.Sub(start); took > r.late()/2 {
			r.Errorf("a lone value was held back for %s", took)
		}
	}
	r.sameText("arrived", textsOf(r.arrivals(3)), names("lone", 3))
}

func emitHung(r *rig) {
	s := r.spy()
	held := make(hold)
	s.onSend = func(ctx context.Context, bags []driver.Bag) error {
		if slices.ContainsFunc(bags, func(bag driver.Bag) bool { return bag.Category == "hung" }) {
			return held.wait(ctx)
		}
		return nil
	}
	k := r.emitter(s, r.patient())
	hung, _ := r.lane(k, emit.Category("hung"))
	free, _ := r.lane(k)
	send(r, hung, note{"hung"})
	r.eventually("the request hangs", func() bool { return len(s.sent()) > 0 })
	texts := names("free", 15)
	for _, text := range texts {
		send(r, free, note{text})
	}
	r.sameText("arrived while a request hangs", textsOf(r.arrivals(len(texts))), texts)
	close(held)
	r.sameText("arrived in the end", textsOf(r.arrivals(1)), []string{"hung"})
}
