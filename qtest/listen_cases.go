package qtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/listen"
)

// listenCases receive through a kernel.
var listenCases = []Case{
	{"L1", "micro-batch: no more messages are in flight than pollers times batch size", []need{listens}, listenMicroBatch},
	{"L1", "no pause: asks again at once after a receive that gave messages", []need{listens}, listenNoPause},
	{"L1", "outage: a receive that fails is repeated, later and later, and loses nothing", []need{listens}, listenOutage},

	{"L2", "kinds: values, events and bytes arrive decoded, with what is known of them", []need{listens}, listenKinds},
	{"L2", "ack: removes the message at the broker", []need{listens}, listenAck},
	{"L2", "ack: acknowledgements of a micro-batch travel together", []need{listens}, listenAckBatch},
	{"L2", "ack: one that fails is repeated, then reported, and stops nothing", []need{listens}, listenAckFails},
	{"L2", "accounting: many kernels share a queue, each message is delivered once", []need{listens}, listenBulk},

	{"L3", "nack: settles at once, the message comes back at once the first time", []need{listens}, listenNack},
	{"L3", "nack: comes back as the redelivery policy says for its attempt", []need{listens}, listenRedelivery},
	{"L3", "nack: RetryAfter overrides the policy", []need{listens}, listenRetryAfter},

	{"L4", "one settlement: a second one is ignored and reported", []need{listens}, listenTwice},
	{"L4", "one settlement: a late one does not touch the next delivery", []need{listens}, listenLate},
	{"L4", "one settlement: a forged or foreign one is ignored and reported", []need{listens}, listenForged},

	{"L5", "isolation: a hung consumer of one category does not stop another", []need{listens}, listenHung},
	{"L5", "isolation: neighbours of an undecodable message are delivered", []need{listens}, listenPoison},
	{"L5", "isolation: neighbours of a message whose codec panics are delivered", []need{listens}, listenPanic},

	{"L6", "unknown category: nacked, later each time, and reported", []need{listens}, listenUnknown},
	{"L6", "unknown category: acknowledged and reported, if the policy says so", []need{listens}, listenUnknownAck},
	{"L6", "unknown category: goes to the catch-all, if there is one", []need{listens}, listenCatchAll},
	{"L6", "missing category: the default one counts", []need{listens, foreign}, listenNoCategory},

	{"L7", "lease: extended while a message waits or is worked on, not after its ack", []need{listens, extends}, listenLease},
	{"L7", "lease: the context of a message ends when it is settled", []need{listens}, listenContext},
	{"L7", "lease: the context of a message ends with its time to flight", []need{listens}, listenTimeToFlight},
	{"L7", "lease: the context of a message ends when its lease is lost", []need{listens, extends}, listenLeaseLost},

	{"L8", "at most once: acknowledged before it is handed over, never comes back", []need{listens}, listenAtMostOnce},
	{"L8", "at most once: settlements are ignored without a word", []need{listens}, listenAtMostOnceAck},

	{"L9", "order: a group waits for its failed message, other groups go on", []need{listens, ordered}, listenOrder},
}

// batchOf makes the batches of a kernel small.
func batchOf(n int) func(*driver.Limits) {
	return func(l *driver.Limits) { l.Entries = min(n, l.Entries) }
}

// gather takes messages until none comes for a moment.
func gather[T any](r *rig, ch <-chan T) []T {
	r.Helper()
	var all []T
	for {
		timer := time.NewTimer(r.moment())
		select {
		case v, ok := <-ch:
			timer.Stop()
			if !ok {
				return all
			}
			all = append(all, v)
		case <-timer.C:
			return all
		}
	}
}

func listenMicroBatch(r *rig) {
	const batch, total = 3, 12
	for pollers := 1; pollers <= 2; pollers++ {
		s := r.spy()
		s.change = batchOf(batch)
		k := r.listener(s, swarm.WithPollerPool(pollers))
		deq, ack := listen.Typed[note](k)
		want := names(fmt.Sprintf("micro%d", pollers), total)
		r.inject(r.notes(fmt.Sprintf("micro%d", pollers), total)...)
		k.start()
		var got []string
		for len(got) < total {
			held := append([]swarm.Msg[note]{take(r, "deq", deq)}, gather(r, deq)...)
			if len(held) > pollers*batch {
				r.Errorf("%d messages are in flight, with %d pollers and batches of %d", len(held), pollers, batch)
			}
			for _, msg := range held {
				got = append(got, msg.Object.Text)
				send(r, ack, msg)
			}
		}
		r.sameText("received", got, want)
		if err := k.close(); err != nil {
			r.Errorf("Close: %v", err)
		}
	}
}

func listenNoPause(r *rig) {
	s := r.spy()
	s.change = batchOf(2)
	k := r.listener(s, swarm.WithPollFrequency(r.Patience/2))
	deq, ack := listen.Typed[note](k)
	const n = 20
	r.inject(r.notes("busy", n)...)
	k.start()
	var got []string
	start := time.Now()
	for range n {
		msg := take(r, "deq", deq)
		got = append(got, msg.Object.Text)
		send(r, ack, msg)
	}
	if took := time.Since(start); took >= r.Patience/2 {
		r.Errorf("%d messages took %s: the kernel has paused", n, took)
	}
	r.sameText("received", got, names("busy", n))
}

func listenOutage(r *rig) {
	s := r.spy()
	var calls []time.Time
	s.onReceive = func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		calls = append(calls, time.Now())
		if len(calls) <= 4 {
			return errNow
		}
		return nil
	}
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("after the outage"))
	k.start()
	msg := take(r, "deq", deq)
	send(r, ack, msg)
	s.mu.Lock()
	defer s.mu.Unlock()
	first, last := calls[1].Sub(calls[0]), calls[4].Sub(calls[3])
	if first < 10*time.Millisecond || last < 2*first {
		r.Errorf("asked again after %s, and after the fourth failure after %s: want longer and longer pauses", first, last)
	}
}

func listenKinds(r *rig) {
	k := r.listener(r.spy())
	values, ackValue := listen.Typed[note](k)
	events, ackEvent := listen.Event[userEvent](k)
	blobs, ackBlob := listen.Bytes(k, codec.Bytes("Image"))
	sent := []driver.Bag{
		r.note("a value"),
		r.bag(`{"meta":{"id":"7","agent":"me","created":"2026-01-02T03:04:05Z","about":"you"},"data":{"ID":"42"}}`),
		r.bag(hostile),
	}
	sent[1].Category, sent[2].Category = "user", "Image"
	r.inject(sent...)
	k.start()

	value := take(r, "values", values)
	if value.Object.Text != "a value" || value.Category != "note" || value.ID == "" || value.Error != nil {
		r.Errorf("value: got %+v", value)
	}
	if r.KeepID && value.ID != sent[0].ID {
		r.Errorf("id: got %q, want %q", value.ID, sent[0].ID)
	}
	if r.Attempts && value.Attempt != 1 {
		r.Errorf("attempt: got %d, want 1", value.Attempt)
	}
	if r.SentAt && value.SentAt.IsZero() {
		r.Errorf("the message does not say when it was sent")
	}
	send(r, ackValue, value)

	event := take(r, "events", events)
	meta, data := event.Object.Meta, event.Object.Data
	if meta == nil || data == nil || meta.ID != "7" || meta.Agent != "me" || meta.About != "you" || meta.Created.Year() != 2026 || data.ID != "42" {
		r.Errorf("event: got meta %+v, data %+v", meta, data)
	}
	send(r, ackEvent, event)

	blob := take(r, "bytes", blobs)
	if string(blob.Object) != hostile {
		r.Errorf("bytes: got %q, want %q", blob.Object, hostile)
	}
	send(r, ackBlob, blob)
}

func listenAck(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	want := names("ack", 5)
	r.inject(r.notes("ack", 5)...)
	k.start()
	for range want {
		send(r, ack, take(r, "deq", deq))
	}
	r.eventually("the broker has confirmed", func() bool { return len(s.settled()) >= len(want) })
	for _, text := range want {
		r.settledOnce(s, text, driver.Ack)
	}
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	r.gone(r.farSide(), "acknowledged")
}

// settledOnce expects exactly one settlement of a message that the broker has
// confirmed, and answers it.
func (r *rig) settledOnce(s *spy, text string, outcome driver.Outcome) settleNote {
	r.Helper()
	var notes []settleNote
	r.eventually("the broker is told about "+text, func() bool {
		notes = slices.DeleteFunc(s.settlements(text), func(n settleNote) bool {
			// A service fails a request now and then, and the kernel repeats it.
			return n.err != nil && !r.Virtual && !permanent(n.err)
		})
		return len(notes) > 0
	})
	if n := notes[0]; len(notes) > 1 || n.Outcome != outcome || n.err != nil {
		r.Fatalf("%s: %d settlements, the first is %s with %v; want one %s", text, len(notes), n.Outcome, n.err, outcome)
	}
	return notes[0]
}

func listenAckBatch(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	n := 3 * s.limits.Entries
	r.inject(r.notes("together", n)...)
	consume(r, deq, ack, func(swarm.Msg[note]) error { return nil })
	k.start()
	r.eventually("all are settled", func() bool { return len(s.settled()) == n })
	receives, calls := 0, map[int]bool{}
	for _, note := range s.received() {
		if len(note.bags) > 0 {
			receives++
		}
	}
	for _, note := range s.settled() {
		calls[note.call] = true
	}
	if len(calls) > 2*receives {
		r.Errorf("%d messages came by %d requests and were acknowledged by %d", n, receives, len(calls))
	}
}

func listenAckFails(r *rig) {
	s := r.spy()
	healed := make(chan struct{})
	s.refuseSettle = func(v driver.Settlement) error {
		if textOf(v.Bag.Body) == "fails-1" && !isClosed(healed) {
			return errNow
		}
		return nil
	}
	k := r.listener(s, swarm.WithRetryConstant(10*time.Millisecond, 3))
	deq, ack := listen.Typed[note](k)
	var got journal
	consume(r, deq, ack, func(msg swarm.Msg[note]) error {
		got.add(msg.Object.Text)
		return nil
	})
	r.inject(r.notes("fails", 3)...)
	k.start()
	e := reports(k.probe, 1, "ListenError", func(e *swarm.ListenError) bool { return e.Op == "settle" })[0]
	if !errors.Is(e, errNow) || e.Category != "note" {
		r.Errorf("got %v, want the broker's cause, of a note", e)
	}
	if n := len(s.settlements("fails-1")); n != 3 {
		r.Errorf("the acknowledgement was sent %d times, the policy says 3", n)
	}
	close(healed)
	r.inject(r.notes("goes on", 3)...)
	want := append(names("fails", 3), names("goes on", 3)...)
	if r.Visibility > 0 {
		want = append(want, "fails-1") // nobody extends its lease after the ack
	}
	r.eventually("all messages are received", func() bool { return got.len() >= len(want) })
	r.sameText("received", got.all(), want)
}

func listenBulk(r *rig) {
	const kernels, consumers = 4, 3
	var got journal
	var spies []*spy
	for range kernels {
		s := r.spy()
		k := r.listener(s, swarm.WithPollerPool(2), swarm.WithPolicyAtLeastOnce(10))
		deq, ack := listen.Typed[note](k)
		for range consumers {
			consume(r, deq, ack, func(msg swarm.Msg[note]) error {
				got.add(msg.Object.Text)
				return nil
			})
		}
		k.start()
		spies = append(spies, s)
	}
	r.inject(r.notes("bulk", r.Messages)...)
	confirmed := func() (texts []string) {
		for _, s := range spies {
			for _, note := range s.settled() {
				if note.err == nil && note.Outcome == driver.Ack {
					texts = append(texts, textOf(note.bag.Body))
				}
			}
		}
		return texts
	}
	for done := -1; got.len() < r.Messages; {
		if done == got.len() {
			r.Fatalf("%d of %d messages are received, no more within %s", done, r.Messages, r.Patience)
		}
		done = got.len()
		r.within(r.Patience, func() bool { return got.len() > done })
	}
	want := names("bulk", r.Messages)
	r.sameText("received", got.all(), want)
	r.within(r.Patience, func() bool {
		n := 0
		for _, s := range spies {
			n += len(s.settled())
		}
		return n >= r.Messages
	})
	r.sameText("acknowledged", confirmed(), want)
}

func listenNack(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	r.inject(r.notes("nack", 3)...)
	k.start()
	start := time.Now()
	held := append([]swarm.Msg[note]{take(r, "deq", deq)}, gather(r, deq)...)
	failed := held[0].Object.Text
	send(r, ack, held[0].Fail(nil))
	// At once: the rest of the micro-batch is still being worked on.
	nack := r.settledOnce(s, failed, driver.Nack)
	if r.Attempts && nack.Delay != 0 {
		r.Errorf("the first nack has a delay of %s, want none", nack.Delay)
	}
	if !errors.Is(nack.Err, swarm.ErrFailed) {
		r.Errorf("the nack has the cause %v, want %v", nack.Err, swarm.ErrFailed)
	}
	for _, msg := range held[1:] {
		send(r, ack, msg)
	}
	for n := len(held); n < 4; n++ {
		msg := take(r, "deq", deq)
		send(r, ack, msg)
		if msg.Object.Text != failed {
			continue
		}
		if took := time.Since(start); r.Attempts && r.Visibility > 0 && took >= r.Visibility {
			r.Errorf("came back after %s, with its lease", took)
		}
		if r.Attempts && msg.Attempt != 2 {
			r.Errorf("came back as attempt %d, want 2", msg.Attempt)
		}
	}
	r.eventually("each is settled", func() bool { return len(s.settlements(failed)) == 2 })
	if n := s.settlements(failed)[1]; n.Outcome != driver.Ack {
		r.Errorf("second delivery: got %s, want ack", n.Outcome)
	}
}

func listenRedelivery(r *rig) {
	s := r.spy()
	policy := func(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }
	k := r.listener(s, swarm.WithRedelivery(policy))
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("again"))
	k.start()
	for range 3 {
		send(r, ack, take(r, "deq", deq).Fail(errFailed))
	}
	send(r, ack, take(r, "deq", deq))
	r.eventually("each delivery is settled", func() bool { return len(s.settlements("again")) == 4 })
	notes := s.settlements("again")
	for i, n := range notes[:3] {
		if want := policy(n.bag.Attempt); n.Outcome != driver.Nack || n.Delay != want || !errors.Is(n.Err, errFailed) {
			r.Errorf("delivery %d: got %s after %s with %v, want nack after %s with the consumer's cause", i+1, n.Outcome, n.Delay, n.Err, want)
		}
	}
	if n := notes[3]; n.Outcome != driver.Ack {
		r.Errorf("last delivery: got %s, want ack", n.Outcome)
	}
}

func listenRetryAfter(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("later"))
	k.start()
	after := r.possible(time.Second)
	msg := take(r, "deq", deq)
	start := time.Now()
	send(r, ack, msg.Fail(fmt.Errorf("wrapped: %w", swarm.RetryAfter(after, errFailed))))
	nack := r.settledOnce(s, "later", driver.Nack)
	if nack.Delay != after {
		r.Errorf("got a delay of %s, want %s", nack.Delay, after)
	}
	again := take(r, "deq", deq)
	if took := time.Since(start); r.Delay && took < after-r.early() {
		r.Errorf("came back after %s, want %s", took, after)
	}
	send(r, ack, again)
}

func listenTwice(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	r.inject(r.notes("twice", 2)...)
	k.start()
	for range 2 {
		msg := take(r, "deq", deq)
		send(r, ack, msg)
		send(r, ack, msg)
		send(r, ack, msg.Fail(errFailed))
	}
	reports(k.probe, 4, "ErrSettled", func(e *swarm.ListenError) bool { return errors.Is(e, swarm.ErrSettled) })
	for _, text := range names("twice", 2) {
		r.settledOnce(s, text, driver.Ack)
	}
}

func listenLate(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithTimeToFlight(time.Second))
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("late"))
	k.start()
	first := take(r, "deq", deq)
	expired := reports(k.probe, 1, "ErrTimeToFlight", func(e *swarm.ListenError) bool { return errors.Is(e, swarm.ErrTimeToFlight) })[0]
	if expired.Op != "expire" {
		r.Errorf("got the operation %q, want expire", expired.Op)
	}
	nack := r.settledOnce(s, "late", driver.Nack)
	if nack.Delay < time.Second {
		r.Errorf("the kernel's own nack has a delay of %s, want a second at least", nack.Delay)
	}
	second := take(r, "deq", deq)
	send(r, ack, first)
	reports(k.probe, 1, "ErrSettled", func(e *swarm.ListenError) bool { return errors.Is(e, swarm.ErrSettled) })
	if isClosed(second.Context().Done()) {
		r.Errorf("the late settlement has ended the next delivery")
	}
	if n := len(s.settlements("late")); n != 1 {
		r.Errorf("%d settlements before the second delivery is settled, want 1", n)
	}
	send(r, ack, second)
	r.eventually("the second delivery is settled", func() bool { return len(s.settlements("late")) == 2 })
	if n := s.settlements("late")[1]; n.Outcome != driver.Ack || n.err != nil {
		r.Errorf("second delivery: got %s and %v, want ack", n.Outcome, n.err)
	}
}

func listenForged(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	others, ackOther := listen.Typed[note](k, listen.Category("other"))
	sent := []driver.Bag{r.note("mine"), r.note("other")}
	sent[1].Category = "other"
	r.inject(sent...)
	k.start()
	mine, other := take(r, "deq", deq), take(r, "others", others)
	for _, forged := range []swarm.Msg[note]{
		{},
		{ID: mine.ID, Category: mine.Category, Object: mine.Object},
		{Digest: swarm.NewDigest(context.Background())},
		other,
		other.Fail(errFailed),
	} {
		send(r, ack, forged)
	}
	reports(k.probe, 5, "ErrForeign", func(e *swarm.ListenError) bool { return errors.Is(e, swarm.ErrForeign) })
	if n := len(s.settled()); n > 0 {
		r.Errorf("%d deliveries are settled by foreign messages", n)
	}
	send(r, ack, mine)
	send(r, ackOther, other)
	r.settledOnce(s, "mine", driver.Ack)
	r.settledOnce(s, "other", driver.Ack)
}

func listenHung(r *rig) {
	s := r.spy()
	s.change = batchOf(4)
	k := r.listener(s)
	hung, ackHung := listen.Typed[note](k, listen.Category("hung"))
	free, ackFree := listen.Typed[note](k)
	stuck := r.notes("hung", 6)
	for i := range stuck {
		stuck[i].Category = "hung"
	}
	r.inject(stuck...)
	k.start()
	held := take(r, "hung", hung)
	r.inject(r.notes("free", 12)...)
	var got journal
	consume(r, free, ackFree, func(msg swarm.Msg[note]) error {
		got.add(msg.Object.Text)
		return nil
	})
	r.eventually("messages of the other category are received", func() bool { return got.len() >= 12 })
	r.sameText("received", got.all(), names("free", 12))
	if isClosed(held.Context().Done()) {
		r.Errorf("the message that the hung consumer holds was taken from it")
	}
	rest := journal{texts: []string{held.Object.Text}}
	send(r, ackHung, held)
	consume(r, hung, ackHung, func(msg swarm.Msg[note]) error {
		rest.add(msg.Object.Text)
		return nil
	})
	r.eventually("the hung ones are received", func() bool { return rest.len() >= 6 })
	r.sameText("received", rest.all(), names("hung", 6))
}

func listenPoison(r *rig) {
	var sent []driver.Bag
	for i, body := range []string{`{"text":`, "", "null", "[1]", "\xff\x00", `"text"`} {
		bag := r.bag(body)
		if body == "" && !r.EmptyBody {
			continue
		}
		sent = append(sent, bag, r.note(fmt.Sprintf("good-%d", i)))
	}
	r.poisoned(sent, len(sent)/2)
}

func listenPanic(r *rig) {
	r.poisoned([]driver.Bag{r.note("panics"), r.note("good-0"), r.note("fails"), r.note("good-1")}, 2,
		listen.Codec[note](newFussy()))
}

// poisoned injects messages of which some cannot be decoded: the good ones are
// delivered, the others nacked by the kernel and reported.
func (r *rig) poisoned(sent []driver.Bag, poison int, opts ...listen.Option) {
	r.Helper()
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k, opts...)
	var got journal
	consume(r, deq, ack, func(msg swarm.Msg[note]) error {
		got.add(msg.Object.Text)
		return nil
	})
	r.inject(sent...)
	k.start()
	good := slices.DeleteFunc(textsOf(sent), func(text string) bool { return groupOf(note{text}) != "good" })
	r.eventually("the neighbours are received", func() bool { return got.len() >= len(good) })
	r.sameText("received", got.all(), good)
	r.eventually("the poison is reported", func() bool {
		seen := map[string]bool{}
		for _, err := range k.errors() {
			if e, ok := errors.AsType[*swarm.ListenError](err); ok && e.Op == "decode" && e.Category == "note" {
				seen[e.ID] = true
			}
		}
		return len(seen) == poison
	})
	nacked := map[string]bool{}
	r.eventually("the poison is nacked", func() bool {
		for _, n := range s.settled() {
			if n.Outcome == driver.Nack {
				nacked[n.bag.ID] = true
				if n.Delay < time.Second {
					r.Fatalf("the kernel's own nack has a delay of %s, want a second at least", n.Delay)
				}
			}
		}
		return len(nacked) == poison
	})
}

// stranger is a message of a category nobody listens to.
func (r *rig) stranger() driver.Bag {
	bag := r.note("stranger")
	bag.Category = "stranger"
	return bag
}

func listenUnknown(r *rig) {
	s := r.spy()
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	r.inject(r.stranger(), r.note("known"))
	k.start()
	msg := take(r, "deq", deq)
	send(r, ack, msg)
	r.settledOnce(s, "known", driver.Ack)
	r.unknownReported(k)
	// Nobody waits for a consumer that is not there, and each time later.
	r.eventually("the stranger is nacked three times", func() bool { return len(s.settlements("stranger")) >= 3 })
	for i, n := range s.settlements("stranger")[:3] {
		if n.Outcome != driver.Nack || n.Delay < time.Second {
			r.Errorf("delivery %d: got %s after %s, want nack after a second at least", i+1, n.Outcome, n.Delay)
		}
	}
}

func (r *rig) unknownReported(k listener) {
	r.Helper()
	r.eventually("the unknown category is reported", func() bool {
		return slices.ContainsFunc(k.errors(), func(err error) bool {
			e, ok := errors.AsType[*swarm.ListenError](err)
			return ok && e.Op == "route" && e.Category == "stranger" && errors.Is(e, swarm.ErrUnknownCategory)
		})
	})
}

func listenUnknownAck(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithUnknownCategory(swarm.UnknownAck))
	deq, ack := listen.Typed[note](k)
	r.inject(r.stranger(), r.note("known"))
	k.start()
	send(r, ack, take(r, "deq", deq))
	r.settledOnce(s, "stranger", driver.Ack)
	r.settledOnce(s, "known", driver.Ack)
	r.unknownReported(k)
}

func listenCatchAll(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithUnknownCategory(swarm.UnknownAck))
	deq, ack := listen.Typed[note](k)
	strangers, ackStranger := listen.Unknown(k)
	sent := r.stranger()
	r.inject(sent, r.note("known"))
	k.start()
	send(r, ack, take(r, "deq", deq))
	msg := take(r, "strangers", strangers)
	if msg.Category != "stranger" || string(msg.Object) != string(sent.Body) {
		r.Errorf("got %q of category %q, want %q of stranger", msg.Object, msg.Category, sent.Body)
	}
	if n := len(s.settlements("stranger")); n > 0 {
		r.Errorf("settled before the catch-all has")
	}
	send(r, ackStranger, msg)
	r.settledOnce(s, "stranger", driver.Ack)
	r.settledOnce(s, "known", driver.Ack)
	if errs := k.errors(); len(errs) > 0 {
		r.Errorf("reported: %v", errs)
	}
}

func listenNoCategory(r *rig) {
	k := r.listener(r.spy(), swarm.WithDefaultCategory("note"))
	deq, ack := listen.Typed[note](k)
	bag := r.note("foreign")
	bag.Category, bag.Source = "", ""
	r.inject(bag)
	k.start()
	msg := take(r, "deq", deq)
	if msg.Category != "note" || msg.Object.Text != "foreign" {
		r.Errorf("got %q of category %q", msg.Object.Text, msg.Category)
	}
	send(r, ack, msg)
}

func listenLease(r *rig) {
	s := r.spy()
	// Two pollers: a broker may take its time with the second message.
	k := r.listener(s, swarm.WithTimeToFlight(10*r.Visibility+r.Patience), swarm.WithPollerPool(2))
	deq, ack := listen.Typed[note](k)
	r.inject(r.notes("slow", 2)...)
	k.start()
	first := take(r, "deq", deq)
	r.eventually("both are received", func() bool { return len(s.deliveries()) == 2 })
	// One is worked on, the other waits, both for longer than two leases.
	r.quiet(r.farSide(), 2*r.Visibility+r.Visibility/2+r.Slack, "being worked on, or waiting")
	if isClosed(first.Context().Done()) {
		r.Errorf("the context of the message has ended")
	}
	send(r, ack, first)
	second := take(r, "deq", deq)
	if r.Attempts && second.Attempt != 1 {
		r.Errorf("the message that has waited is attempt %d", second.Attempt)
	}
	send(r, ack, second)
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	r.gone(r.farSide(), "acknowledged")
	for _, text := range names("slow", 2) {
		acked := r.settledOnce(s, text, driver.Ack)
		extended := 0
		for _, n := range s.extended() {
			if textOf(n.bag.Body) == text {
				extended++
				if n.at.After(acked.at) {
					r.Errorf("%s: extended after it was acknowledged", text)
				}
			}
		}
		if extended == 0 {
			r.Errorf("%s: its lease was not extended", text)
		}
	}
}

func listenContext(r *rig) {
	k := r.listener(r.spy())
	deq, ack := listen.Typed[note](k)
	r.inject(r.notes("context", 2)...)
	k.start()
	for _, fail := range []bool{false, true} {
		msg := take(r, "deq", deq)
		ctx, stop := context.WithCancel(msg.Context())
		pause(r.Context(), r.moment())
		if err := ctx.Err(); err != nil {
			r.Errorf("the context has ended before the message is settled: %v", err)
		}
		if fail {
			send(r, ack, msg.Fail(swarm.RetryAfter(r.Patience, errFailed)))
		} else {
			send(r, ack, msg)
		}
		if !r.within(r.late(), func() bool { return ctx.Err() != nil }) {
			r.Errorf("the context has not ended %s after the message was settled", r.late())
		}
		stop()
	}
}

func listenTimeToFlight(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithTimeToFlight(500*time.Millisecond))
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("flight"))
	start := time.Now()
	k.start()
	msg := take(r, "deq", deq)
	if deadline, ok := msg.Context().Deadline(); !ok || deadline.Before(start.Add(500*time.Millisecond)) {
		r.Errorf("got the deadline %s (%v), want the end of the time to flight", deadline, ok)
	}
	r.eventually("the context ends", func() bool { return isClosed(msg.Context().Done()) })
	if took := time.Since(start); took < 500*time.Millisecond {
		r.Errorf("the context has ended after %s", took)
	}
	if cause := context.Cause(msg.Context()); !errors.Is(cause, swarm.ErrTimeToFlight) {
		r.Errorf("the context has ended with %v, want %v", cause, swarm.ErrTimeToFlight)
	}
	r.settledOnce(s, "flight", driver.Nack)
	send(r, ack, msg)
}

func listenLeaseLost(r *rig) {
	s := r.spy()
	s.refuseExtend = func(driver.Bag) error { return driver.Permanent(errors.New("qtest: the lease is lost")) }
	k := r.listener(s)
	deq, ack := listen.Typed[note](k)
	r.inject(r.note("lost"))
	k.start()
	msg := take(r, "deq", deq)
	r.eventually("the context ends", func() bool { return isClosed(msg.Context().Done()) })
	if cause := context.Cause(msg.Context()); !errors.Is(cause, swarm.ErrLeaseLost) {
		r.Errorf("the context has ended with %v, want %v", cause, swarm.ErrLeaseLost)
	}
	reports(k.probe, 1, "ErrLeaseLost", func(e *swarm.ListenError) bool { return errors.Is(e, swarm.ErrLeaseLost) })
	send(r, ack, msg)
	reports(k.probe, 1, "ErrSettled", func(e *swarm.ListenError) bool { return errors.Is(e, swarm.ErrSettled) })
	s.set(func(s *spy) { s.refuseExtend = nil })
	// It comes again when the broker's own clock says so.
	send(r, ack, take(r, "deq", deq))
}

func listenAtMostOnce(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithPolicyAtMostOnce(2))
	deq, _ := listen.Typed[note](k)
	r.inject(r.notes("once", 6)...)
	k.start()
	var got []string
	for range 6 {
		msg := take(r, "deq", deq)
		got = append(got, msg.Object.Text)
		if notes := s.settlements(msg.Object.Text); len(notes) != 1 || notes[0].Outcome != driver.Ack || notes[0].err != nil {
			r.Fatalf("%s is handed over with %d settlements, want an ack before", msg.Object.Text, len(notes))
		}
	}
	r.sameText("received", got, names("once", 6))
	if err := k.close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	r.gone(r.farSide(), "acknowledged")
}

func listenAtMostOnceAck(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithPolicyAtMostOnce(2))
	deq, ack := listen.Typed[note](k)
	r.inject(r.notes("ignored", 3)...)
	k.start()
	for range 3 {
		msg := take(r, "deq", deq)
		send(r, ack, msg)
		send(r, ack, msg.Fail(errFailed))
		send(r, ack, swarm.Msg[note]{})
	}
	pause(r.Context(), r.moment())
	for _, text := range names("ignored", 3) {
		r.settledOnce(s, text, driver.Ack)
	}
	if errs := k.errors(); len(errs) > 0 {
		r.Errorf("reported: %v", errs)
	}
}

func listenOrder(r *rig) {
	s := r.spy()
	k := r.listener(s, swarm.WithRedelivery(func(int) time.Duration { return 0 }))
	deq, ack := listen.Typed[note](k)
	const n = 6
	g, h := grouped("g", r.notes("g", n)), grouped("h", r.notes("h", n))
	var mixed []driver.Bag
	for i := range n {
		mixed = append(mixed, g[i], h[i])
	}
	r.inject(mixed...)
	var mu sync.Mutex
	inHand, failed := map[string]int{}, 0
	var got journal
	for range 3 {
		consume(r, deq, ack, func(msg swarm.Msg[note]) error {
			group := groupOf(msg.Object)
			mu.Lock()
			defer mu.Unlock()
			if inHand[group]++; inHand[group] > 1 {
				r.Errorf("%s is handed over while another one of its group is worked on", msg.Object.Text)
			}
			got.add(msg.Object.Text)
			mu.Unlock()
			pause(r.Context(), time.Millisecond)
			mu.Lock()
			inHand[group]--
			if msg.Object.Text == "g-1" && failed < 2 {
				failed++
				return errFailed
			}
			return nil
		})
	}
	k.start()
	r.eventually("all are received", func() bool { return got.len() >= 2*n+2 })
	r.inOrder("the group with a failure", ofTextGroup(got.all(), "g"), []string{"g-0", "g-1", "g-1", "g-1", "g-2", "g-3", "g-4", "g-5"})
	r.inOrder("the other group", ofTextGroup(got.all(), "h"), names("h", n))
}
