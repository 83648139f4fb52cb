package qtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// errFailed is why a case nacks.
var errFailed = errors.New("qtest: failed on purpose")

// driverCases call the driver directly.
var driverCases = []Case{
	{"D0", "features: the driver is what its features say", nil, driverFeatures},

	{"D1", "body: text arrives as it was sent", nil, bodyText},
	{"D1", "body: bytes of any kind arrive unaltered", nil, bodyBytes},
	{"D1", "body: an empty one arrives empty, or is refused for good", nil, bodyEmpty},
	{"D1", "body: the largest one arrives whole", nil, bodyLargest},
	{"D1", "attributes: names and values arrive unaltered", []need{attributes}, attributesKept},
	{"D1", "category: any that a type can have arrives", nil, categoryKept},
	{"D1", "source: the sender's name arrives", []need{keepSource}, sourceKept},
	{"D1", "id: the sender's ID arrives", []need{keepID}, idKept},

	{"D2", "batch: a full one arrives, each message once", []need{emits}, sendBatch},
	{"D2", "ownership: the caller may reuse slice and bags when Send has returned", []need{emits}, sendOwnership},
	{"D2", "partial failure: names the entries that the broker refused, the others arrive", []need{emits, faults}, sendPartial},
	{"D2", "failure: permanent when the sender is at fault, and only then", []need{emits, faults}, sendFailure},
	{"D2", "oversize: refused for good", []need{emits, maxSize}, sendOversize},
	{"D2", "cancel: Send returns at once when its context has ended", []need{emits}, sendCancelled},
	{"D2", "dedup: of two messages with one key one arrives", []need{emits, dedup}, sendDedup},

	{"D3", "max: Receive returns no more than it was asked for", []need{listens}, receiveMax},
	{"D3", "empty: Receive answers with nothing and no error, after its wait", []need{listens}, receiveEmpty},
	{"D3", "late: messages wait for their receiver", []need{listens}, receiveLate},
	{"D3", "ownership: the receiver may change what it received", []need{listens}, receiveOwnership},
	{"D3", "id: the same for each delivery, different for each message", []need{listens}, receiveID},
	{"D3", "time: says when the broker took the message", []need{listens, sentAt}, receiveTime},
	{"D3", "exclusive: a message in flight is offered to nobody else", []need{listens}, receiveExclusive},
	{"D3", "lease: says when the message would be offered again", []need{listens, extends}, receiveLease},
	{"D3", "cancel: Receive returns at once when its context ends", []need{listens}, receiveCancelled},
	{"D3", "cancel: a cancelled Receive loses nothing", []need{listens}, receiveCancelledLossless},
	{"D3", "failure: permanent when repeating is pointless, and only then; loses nothing", []need{listens, faults}, receiveFailure},
	{"D3", "order: messages of one group arrive in order", []need{ordered}, receiveOrder},
	{"D3", "groups: none of a group is offered while one before it is in flight", []need{listens, ordered}, receiveGroup},

	{"D4", "ack: removes the message", []need{listens, visibility}, settleAck},
	{"D4", "ack: leaves the rest of the batch", []need{listens}, settleAckOne},
	{"D4", "ack: twice does no harm", []need{listens}, settleAckTwice},
	{"D4", "nack: the message comes back at once", []need{listens}, settleNack},
	{"D4", "nack: the message comes back after the delay, not before", []need{listens, delays}, settleNackLater},
	{"D4", "nack: a delay above the limit counts as the limit", []need{listens, maxDelay}, settleNackLimit},
	{"D4", "release: the message comes back at once", []need{listens}, settleRelease},
	{"D4", "mixed: each entry of a batch has its own outcome", []need{listens, visibility, delays}, settleMixed},
	{"D4", "attempts: counts deliveries from 1", []need{listens, attempts}, settleAttempts},
	{"D4", "visibility: an unsettled message comes back after its lease, not before", []need{listens, visibility}, settleNothing},
	{"D4", "stale: a delivery whose lease has passed on settles nothing", []need{listens, stale}, settleStale},
	{"D4", "partial failure: names the entries that the broker refused, the others are settled", []need{listens, faults}, settlePartial},
	{"D4", "order: a nacked message comes before the rest of its group", []need{listens, ordered}, settleOrder},

	{"D5", "extend: keeps the lease, from now on", []need{listens, extends}, extendLease},
	{"D5", "extend: fails for good when the lease has passed on", []need{listens, extends, stale}, extendStale},

	{"D6", "close: ends a connection, not the queue", nil, closeOne},
	{"D6", "concurrent: many connections and goroutines, each message once", nil, concurrent},
}

func driverFeatures(r *rig) {
	c := r.connect()
	for _, x := range []struct {
		what           string
		has, announced bool
	}{
		{"is a driver.Sender", c.Sender != nil, !r.ListenOnly},
		{"is a driver.Receiver", c.Receiver != nil, !r.EmitOnly},
		{"is a driver.Extender", c.Extender != nil, r.Extend},
		{"says Limits.Ordered", c.limits.Ordered, r.Ordered},
		{"has Queue.Drain", r.queue.Drain != nil, r.EmitOnly},
		{"has Queue.Inject", r.queue.Inject != nil, r.ListenOnly},
		{"has Queue.Fail", r.queue.Fail != nil, r.Faults},
	} {
		if x.has != x.announced {
			r.Errorf("%s: %v, the features say %v", x.what, x.has, x.announced)
		}
	}
	if r.EmitOnly {
		return
	}
	r.inject(r.bag("hello"))
	bag := r.receive(c, 1)[0]
	for _, x := range []struct {
		what           string
		has, announced bool
	}{
		{"counts attempts", bag.Attempt != 0, r.Attempts},
		{"says when it was sent", !bag.SentAt.IsZero(), r.SentAt},
		{"says when the lease ends", !bag.Lease.IsZero(), r.Extend},
	} {
		if x.has != x.announced {
			r.Errorf("%s: %v, the features say %v", x.what, x.has, x.announced)
		}
	}
	r.settle(c, acked(bag)...)
}

func bodyText(r *rig) {
	r.roundTrip(
		`{"id":"1","text":"plain"}`,
		"two\nlines\r\nand a tab\t.",
		"  spaces around  ",
		"日本語 · ∞ · 🐝 · e\u0301",
		`quotes " ' and \ and <tags> & entities &amp; %20 ${x}`,
		"[]", "null", "0",
		"aGVsbG8=",
		strings.Repeat("long ", 2000),
	)
}

func bodyBytes(r *rig) {
	var all [256]byte
	for i := range all {
		all[i] = byte(i)
	}
	r.roundTrip(
		string(all[:]),
		"\xff\xfe\x00\x80A",
		"invalid \xc3\x28 utf-8",
		"\xed\xa0\x80 is a surrogate",
		"\ufffe and \uffff are no characters",
		"\x00", "\x01\x02\x03\x1b[0m\x7f",
		"\ufeffbyte order mark",
		" ", "\n", "\t\r\n",
	)
}

// roundTrip sends bodies and expects them on the far side.
func (r *rig) roundTrip(texts ...string) {
	r.Helper()
	var want []driver.Bag
	for _, text := range texts {
		want = append(want, r.bag(text))
	}
	r.emit(want...)
	r.same("bodies", r.arrivals(len(want)), want)
}

// emit puts bags on the queue the way the broker is made for: by Send if it can.
func (r *rig) emit(bags ...driver.Bag) {
	r.Helper()
	if r.ListenOnly {
		r.inject(bags...)
		return
	}
	r.send(r.connect(), bags...)
}

func bodyEmpty(r *rig) {
	empty := r.bag("")
	if r.EmptyBody {
		r.emit(empty)
		r.same("bodies", r.arrivals(1), []driver.Bag{empty})
		return
	}
	if !r.ListenOnly {
		r.refused("an empty body", empty)
	}
}

// refused expects that a bag is refused for good, before the call or by it.
func (r *rig) refused(what string, bag driver.Bag) {
	r.Helper()
	c := r.connect()
	if c.limits.Check != nil {
		if c.limits.Check(&bag) == nil {
			r.Fatalf("Check of %s: got nil, want an error", what)
		}
		return
	}
	if err := c.Send(r.Context(), []driver.Bag{bag}); !permanent(err) {
		r.Fatalf("Send of %s: got %v, want a permanent error", what, err)
	}
	r.stragglers(what)
}

// permanent reports whether err says for all entries that repeating is pointless.
func permanent(err error) bool {
	if batch, ok := errors.AsType[*driver.BatchError](err); ok {
		return len(batch.Failed) > 0 &&
			!slices.ContainsFunc(batch.Failed, func(f driver.Failure) bool { return !f.Permanent })
	}
	return driver.IsPermanent(err)
}

func bodyLargest(r *rig) {
	bag, _ := r.largest(cmp.Or(r.MaxSize, 1<<20))
	r.emit(bag)
	got := r.arrivals(1)
	if body := got[0].Body; string(body) != string(bag.Body) {
		r.Fatalf("sent %d bytes, %d have arrived, or other ones", len(bag.Body), len(body))
	}
}

// largest makes the largest message that the broker counts as up to limit, and one with a
// byte more in its body. A byte of the body may count as more than one: packed ones do.
func (r *rig) largest(limit int) (fits, over driver.Bag) {
	r.Helper()
	size := r.connect().limits.Size
	body := []byte(strings.Repeat("x", limit+1))
	sized := func(n int) driver.Bag {
		bag := r.bag("")
		bag.Body = body[:n]
		return bag
	}
	n := sort.Search(len(body), func(n int) bool {
		bag := sized(n)
		return size(&bag) > limit
	})
	if n == 0 {
		r.Fatalf("Limits.Size of an empty message is above %d", limit)
	}
	return sized(n - 1), sized(n)
}

func attributesKept(r *rig) {
	values := []string{
		"plain", "日本語 · ∞ · 🐝", " spaces around ", "a\tb\nc", `{"json":"\"quoted\""}`, "a=b;c,d&e%20",
		strings.Repeat("0123456789", min(1000, r.AttributeSize/10)),
		strings.Repeat("é", min(5000, r.AttributeSize/2)),
	}
	if r.EmptyAttribute {
		values = append(values, "")
	}
	names := []string{"traceparent", "X-Mixed.Case_1", "a"}
	var sent []driver.Bag
	for i := 0; i < len(values); {
		bag := r.bag(fmt.Sprintf("with attributes %d", i))
		bag.Attrs = map[string]string{}
		for _, name := range names[:min(len(names), r.Attributes)] {
			if i < len(values) && len(values[i]) <= r.AttributeSize {
				bag.Attrs[name] = values[i]
			}
			i++
		}
		sent = append(sent, bag)
	}
	r.emit(sent...)
	got := map[string]map[string]string{}
	for _, bag := range r.arrivals(len(sent)) {
		got[string(bag.Body)] = bag.Attrs
	}
	for _, bag := range sent {
		attrs := got[string(bag.Body)]
		for name, want := range bag.Attrs {
			if value, ok := attrs[name]; !ok {
				r.Errorf("attribute %s is lost, want %s", name, brief([]string{want}))
			} else if value != want {
				r.Errorf("attribute %s: got %s, want %s", name, brief([]string{value}), brief([]string{want}))
			}
		}
	}
}

func categoryKept(r *rig) {
	categories := []string{"note", "User", "Pair[User,Note]", "Box[map[string]*Note]", "dotted.name-with_dash"}
	r.fieldKept(categories, func(bag *driver.Bag) *string { return &bag.Category })
}

func sourceKept(r *rig) {
	r.fieldKept([]string{"qtest", "name-of-my-component", "svc.with.dots"}, func(bag *driver.Bag) *string { return &bag.Source })
}

func idKept(r *rig) {
	r.fieldKept([]string{"1", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "request_42"}, func(bag *driver.Bag) *string { return &bag.ID })
}

// fieldKept sends a message for each value of a field and expects the values back.
func (r *rig) fieldKept(values []string, field func(*driver.Bag) *string) {
	r.Helper()
	sent := r.bags("field", len(values))
	want := map[string]string{}
	for i, value := range values {
		*field(&sent[i]) = value
		want[string(sent[i].Body)] = value
	}
	r.emit(sent...)
	for _, bag := range r.arrivals(len(sent)) {
		if got, want := *field(&bag), want[string(bag.Body)]; got != want {
			r.Errorf("got %q, want %q", got, want)
		}
	}
}

func sendBatch(r *rig) {
	c := r.connect()
	sent := r.bags("batch", 2*c.limits.Entries)
	r.send(c, sent...)
	r.same("arrived", r.arrivals(len(sent)), sent)
	r.stragglers("more than was sent")
}

func sendOwnership(r *rig) {
	c := r.connect()
	sent := r.bags("mine", min(2, c.limits.Entries))
	want := bodies(sent)
	if r.Attributes > 0 {
		for i := range sent {
			sent[i].Attrs = map[string]string{"owner": "caller"}
		}
	}
	if err := c.Send(r.Context(), sent); err != nil {
		r.Fatalf("Send: %v", err)
	}
	for i := range sent {
		if sent[i].Attrs != nil {
			sent[i].Attrs["owner"] = "reused"
		}
		sent[i] = driver.Bag{Category: "reused", Body: []byte("reused")}
	}
	got := r.arrivals(len(want))
	r.sameText("bodies", bodies(got), want)
	for _, bag := range got {
		if bag.Category != "note" || r.Attributes > 0 && bag.Attrs["owner"] != "caller" {
			r.Errorf("got category %q and owner %q, want those of the call", bag.Category, bag.Attrs["owner"])
		}
	}
}

func sendPartial(r *rig) {
	c := r.connect()
	for _, permanent := range []bool{false, true} {
		sent := r.bags(fmt.Sprintf("permanent %v", permanent), min(5, c.limits.Entries))
		refused := []int{len(sent) - 1}
		if len(sent) > 3 {
			refused = []int{1, 3}
		}
		r.queue.Fail(Fault{Op: Send, Entries: refused, Permanent: permanent})
		r.failures(c.Send(r.Context(), sent), refused, permanent)
		accepted := without(sent, refused)
		r.same("accepted", r.arrivals(len(accepted)), accepted)
		r.stragglers("refused")
		var again []driver.Bag
		for _, i := range refused {
			again = append(again, sent[i])
		}
		r.send(c, again...)
		r.same("sent again", r.arrivals(len(again)), again)
	}
}

// failures expects an error that names exactly the entries of want.
func (r *rig) failures(err error, want []int, permanent bool) {
	r.Helper()
	batch, ok := errors.AsType[*driver.BatchError](err)
	if !ok {
		r.Fatalf("got %v, want a *driver.BatchError for the entries %v", err, want)
	}
	var got []int
	for _, f := range batch.Failed {
		got = append(got, f.Index)
		if f.Permanent != permanent {
			r.Errorf("entry %d: got permanent %v, want %v", f.Index, f.Permanent, permanent)
		}
		if f.Err == nil {
			r.Errorf("entry %d has no cause", f.Index)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		r.Fatalf("failed entries: got %v, want %v", got, want)
	}
}

// without returns bags but for the ones at the positions.
func without(bags []driver.Bag, positions []int) []driver.Bag {
	var rest []driver.Bag
	for i, bag := range bags {
		if !slices.Contains(positions, i) {
			rest = append(rest, bag)
		}
	}
	return rest
}

func sendFailure(r *rig) {
	c := r.connect()
	sent := r.bags("failure", min(2, c.limits.Entries))
	for _, want := range []bool{false, true} {
		r.queue.Fail(Fault{Op: Send, Permanent: want})
		err := c.Send(r.Context(), sent)
		if err == nil {
			r.Fatalf("the broker has refused all, Send says nil")
		}
		if got := permanent(err); got != want {
			r.Errorf("%v: got permanent %v, want %v", err, got, want)
		}
		r.stragglers("refused")
	}
	r.send(c, sent...)
	r.same("once the broker accepts", r.arrivals(len(sent)), sent)
}

func sendOversize(r *rig) {
	_, over := r.largest(r.MaxSize)
	r.refused("a byte too much", over)
}

func sendCancelled(r *rig) {
	c := r.connect()
	dead, cancel := context.WithCancel(r.Context())
	cancel()
	sent := r.bag("cancelled")
	var err error
	r.promptly("Send with an ended context", func() { err = c.Send(dead, []driver.Bag{sent}) })
	if err != nil && permanent(err) {
		r.Errorf("got permanent error %v: the sender is not at fault", err)
	}
	// Whatever became of it, the connection goes on.
	again := r.bag("sent again")
	r.send(c, again)
	r.eventually("the next Send arrives", func() bool {
		return slices.Contains(bodies(r.arrived(1, r.moment())), "sent again")
	})
}

// promptly fails when f takes as long as a network timeout.
func (r *rig) promptly(what string, f func()) {
	r.Helper()
	limit := 5 * time.Second
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		r.Fatalf("%s: not done within %s", what, limit)
	}
}

func sendDedup(r *rig) {
	sent := r.bags("dedup", 3)
	for i, key := range []string{"key-a", "key-a", "key-b"} {
		sent[i].Dedup = key
		if r.Ordered {
			sent[i].Group = "group"
		}
	}
	c := r.connect()
	for _, bag := range sent {
		r.send(c, bag)
	}
	r.same("arrived", r.arrivals(2), []driver.Bag{sent[0], sent[2]})
	r.stragglers("the second with one key")
}

func receiveMax(r *rig) {
	c := r.connect()
	sent := r.bags("max", 12)
	r.inject(sent...)
	var got []driver.Bag
	for i := 0; len(got) < len(sent); i++ {
		limit := min(1+i%3, c.limits.Entries)
		var bags []driver.Bag
		r.eventually("Receive gives something", func() bool {
			var err error
			if bags, err = c.Receive(r.Context(), limit); err != nil {
				r.Fatalf("Receive: %v", err)
			}
			return len(bags) > 0
		})
		if len(bags) > limit {
			r.Fatalf("asked for %d, got %d", limit, len(bags))
		}
		r.settle(c, acked(bags...)...)
		got = append(got, bags...)
	}
	r.same("received", got, sent)
}

func receiveEmpty(r *rig) {
	c := r.connect()
	var bags []driver.Bag
	var err error
	start := time.Now()
	done := make(chan struct{})
	go func() { defer close(done); bags, err = c.Receive(r.Context(), 1) }()
	limit := c.limits.Wait + 5*time.Second
	if !r.within(limit, func() bool { return isClosed(done) }) {
		r.Fatalf("Receive of an empty queue: no answer within %s", limit)
	}
	if took := time.Since(start); took < c.limits.Wait-time.Second {
		r.Errorf("Receive has answered after %s, Limits.Wait says %s: the kernel would ask in a loop", took, c.limits.Wait)
	}
	if err != nil || len(bags) > 0 {
		r.Errorf("Receive of an empty queue: got %d messages and %v, want nothing", len(bags), err)
	}
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func receiveLate(r *rig) {
	sent := r.bags("early", 3)
	r.inject(sent...)
	pause(r.Context(), r.moment())
	c := r.connect()
	got := r.receive(c, len(sent))
	r.same("received", got, sent)
	r.settle(c, acked(got...)...)
}

func receiveOwnership(r *rig) {
	c := r.connect()
	const text = "as it was sent"
	sent := r.bag(text)
	if r.Attributes > 0 {
		sent.Attrs = map[string]string{"owner": "sender"}
	}
	r.inject(sent)
	first := r.receive(c, 1)
	handle := first[0].Handle
	scribble(first[0].Body)
	for name := range first[0].Attrs {
		first[0].Attrs[name] = "scribbled"
	}
	first[0] = driver.Bag{Handle: handle, ID: first[0].ID, Group: first[0].Group}
	r.settle(c, nacked(0, first...)...)
	again := r.receive(c, 1)
	r.sameText("received again", bodies(again), []string{text})
	if r.Attributes > 0 && again[0].Attrs["owner"] != "sender" {
		r.Errorf("attribute: got %q, want %q", again[0].Attrs["owner"], "sender")
	}
	r.settle(c, acked(again...)...)
}

func scribble(body []byte) {
	for i := range body {
		body[i] = '#'
	}
}

func receiveID(r *rig) {
	c := r.connect()
	sent := r.bags("id", 3)
	r.inject(sent...)
	id := map[string]string{}
	seen := map[string]bool{}
	first := r.receive(c, len(sent))
	for _, bag := range first {
		if bag.ID == "" || seen[bag.ID] {
			r.Errorf("%q has the ID %q: empty, or not its own", bag.Body, bag.ID)
		}
		seen[bag.ID] = true
		id[string(bag.Body)] = bag.ID
	}
	r.settle(c, nacked(0, first...)...)
	again := r.receive(c, len(sent))
	for _, bag := range again {
		if want := id[string(bag.Body)]; bag.ID != want {
			r.Errorf("%q: got the ID %q, the first delivery had %q", bag.Body, bag.ID, want)
		}
	}
	r.settle(c, acked(again...)...)
}

func receiveTime(r *rig) {
	c := r.connect()
	before := time.Now()
	r.inject(r.bag("when"))
	after := time.Now()
	bag := r.receive(c, 1)[0]
	// The clock of a service is another one, and may be in whole seconds.
	const skew = 5 * time.Second
	if bag.SentAt.Before(before.Add(-skew)) || bag.SentAt.After(after.Add(skew)) {
		r.Errorf("got %s, want a time from %s to %s", bag.SentAt, before, after)
	}
	r.settle(c, acked(bag)...)
}

func receiveExclusive(r *rig) {
	c, other := r.connect(), r.connect()
	sent := r.bags("exclusive", 3)
	r.inject(sent...)
	got := r.receive(c, len(sent))
	// Half of the lease at most, or the broker would be right to offer it again.
	d := r.moment()
	if r.Visibility > 0 {
		d = min(d, r.Visibility/4)
	}
	r.quiet(other, d, "in flight elsewhere")
	r.settle(c, acked(got...)...)
}

func receiveLease(r *rig) {
	c := r.connect()
	r.inject(r.bag("lease"))
	before := time.Now()
	bag := r.receive(c, 1)[0]
	after := time.Now()
	if bag.Lease.Before(before.Add(r.Visibility-r.early())) || bag.Lease.After(after.Add(r.Visibility+r.Slack)) {
		r.Errorf("the lease ends at %s, %s after the receive, want %s", bag.Lease, bag.Lease.Sub(before), r.Visibility)
	}
	r.settle(c, acked(bag)...)
}

func receiveCancelled(r *rig) {
	c := r.connect()
	ctx, cancel := context.WithCancel(r.Context())
	receiving := make(chan struct{})
	go func() {
		defer close(receiving)
		if bags, _ := c.Receive(ctx, 1); len(bags) > 0 {
			r.Errorf("received %d messages from an empty queue", len(bags))
		}
	}()
	pause(r.Context(), r.moment())
	cancel()
	r.promptly("Receive, when its context ends", func() { <-receiving })
	r.promptly("Receive with an ended context", func() { _, _ = c.Receive(ctx, 1) })
}

func receiveCancelledLossless(r *rig) {
	c := r.connect()
	rounds := 20
	if !r.Virtual {
		rounds = 4 // each may wait for a lease to end
	}
	sent := r.bags("round", rounds)
	start := time.Now()
	var got []driver.Bag
	for i := range rounds {
		// The message comes about when the receiver gives up, to an empty queue.
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
		var injected sync.WaitGroup
		injected.Go(func() {
			pause(r.Context(), time.Duration(8+i%5)*time.Millisecond)
			r.inject(sent[i])
		})
		bags, _ := c.Receive(ctx, 1)
		injected.Wait()
		cancel()
		if len(bags) == 0 {
			pause(r.Context(), r.tick()) // whoever still waits would have it now
			bags = r.receive(c, 1)
		}
		r.settle(c, acked(bags...)...)
		got = append(got, bags...)
	}
	r.same("received", got, sent)
	// A service may take back what the answer to a cancelled call has carried off
	// only after its visibility timeout; within a process there is no such answer.
	if took := time.Since(start); r.Virtual && r.Visibility > 0 && took >= r.Visibility {
		r.Errorf("took %s: a message was in flight with nobody", took)
	}
}

func receiveFailure(r *rig) {
	c := r.connect()
	sent := r.bag("after the failure")
	r.inject(sent)
	for _, want := range []bool{false, true} {
		r.queue.Fail(Fault{Op: Receive, Permanent: want})
		bags, err := c.Receive(r.Context(), 1)
		if err == nil || len(bags) > 0 {
			r.Fatalf("the broker has failed, Receive says %d messages and %v", len(bags), err)
		}
		if got := driver.IsPermanent(err); got != want {
			r.Errorf("%v: got permanent %v, want %v", err, got, want)
		}
	}
	got := r.receive(c, 1)
	r.same("received", got, []driver.Bag{sent})
	r.settle(c, acked(got...)...)
}

func receiveOrder(r *rig) {
	const n = 25
	a, b := grouped("a", r.bags("a", n)), grouped("b", r.bags("b", n))
	var sent []driver.Bag
	for i := range n {
		sent = append(sent, a[i], b[i])
	}
	r.emit(sent...)
	got := r.arrivals(len(sent))
	for _, want := range [][]driver.Bag{a, b} {
		group := want[0].Group
		r.inOrder("group "+group, bodies(ofGroup(got, group)), bodies(want))
	}
}

// ofGroup returns the bags of a group. They know it: the group travels both ways.
func ofGroup(bags []driver.Bag, group string) []driver.Bag {
	var of []driver.Bag
	for _, bag := range bags {
		if bag.Group == group {
			of = append(of, bag)
		}
	}
	return of
}

func receiveGroup(r *rig) {
	c := r.connect()
	held := grouped("held", r.bags("held", 3))
	r.inject(held...)
	first := r.receive(c, 1)
	free := grouped("free", r.bags("free", 1))
	r.inject(free...)
	// The other group goes on, while this one waits.
	other := r.connect()
	got := r.receive(other, 1)
	r.same("of the other group", got, free)
	r.settle(other, acked(got...)...)
	d := r.moment()
	if r.Visibility > 0 {
		d = min(d, r.Visibility/4)
	}
	r.quiet(other, d, "one of the group is in flight")
	r.settle(c, acked(first...)...)
	if r.Sticky {
		other = c
	}
	var rest []driver.Bag
	for range 2 {
		bags := r.receive(other, 1)
		r.settle(other, acked(bags...)...)
		rest = append(rest, bags...)
	}
	r.inOrder("the rest of the group", bodies(append(first, rest...)), bodies(held))
}

func settleAck(r *rig) {
	c := r.connect()
	sent := r.bags("ack", 3)
	r.inject(sent...)
	r.settle(c, acked(r.receive(c, len(sent))...)...)
	r.gone(c, "acknowledged")
}

// gone expects that nothing comes back, even when all leases have ended.
func (r *rig) gone(c *conn, why string) {
	r.Helper()
	r.quiet(c, r.Visibility+r.Slack+r.moment(), why)
}

func settleAckOne(r *rig) {
	c := r.connect()
	sent := r.bags("one of", 3)
	r.inject(sent...)
	got := r.receive(c, len(sent))
	r.settle(c, acked(got[0])...)
	r.settle(c, nacked(0, got[1:]...)...)
	again := r.receive(c, 2)
	r.same("received again", again, got[1:])
	r.settle(c, acked(again...)...)
}

func settleAckTwice(r *rig) {
	c := r.connect()
	sent := r.bags("twice", 2)
	r.inject(sent...)
	got := r.receive(c, 2)
	r.settle(c, acked(got[0])...)
	if err := c.Settle(r.Context(), acked(got[0])); err != nil && !permanent(err) {
		r.Errorf("second ack: got %v, want nil or a permanent failure: the kernel would repeat it", err)
	}
	// The other message is not touched by it.
	r.settle(c, nacked(0, got[1])...)
	again := r.receive(c, 1)
	r.same("received again", again, got[1:])
	r.settle(c, acked(again...)...)
}

func settleNack(r *rig) { r.comesBackAtOnce(driver.Nack) }

func settleRelease(r *rig) { r.comesBackAtOnce(driver.Release) }

func (r *rig) comesBackAtOnce(outcome driver.Outcome) {
	r.Helper()
	c, other := r.connect(), r.connect()
	if r.Sticky {
		other = c
	}
	sent := r.bags("back", 3)
	r.inject(sent...)
	start := time.Now()
	got := r.receive(c, len(sent))
	r.settle(c, settled(outcome, 0, got...)...)
	again := r.receive(other, len(sent))
	if took := time.Since(start); r.Visibility > 0 && took >= r.Visibility {
		r.Errorf("took %s: the lease of %s has brought it back", took, r.Visibility)
	}
	r.same("received again", again, sent)
	r.settle(other, acked(again...)...)
}

func settleNackLater(r *rig) {
	c := r.connect()
	// One delay shorter than the lease and one longer: neither hides behind it.
	short, long := 2*time.Second, r.Visibility+r.Slack+2*time.Second
	if r.Visibility > 0 {
		short = r.Visibility / 2
	}
	short, long = r.possible(short), r.possible(long)
	sent := r.bags("later", 2)
	r.inject(sent...)
	got := r.receive(c, 2)
	delay := map[string]time.Duration{
		string(got[0].Body): short,
		string(got[1].Body): long,
	}
	start := time.Now()
	r.settle(c, append(nacked(short, got[0]), nacked(long, got[1])...)...)
	for range got {
		again := r.receive(c, 1)
		took := time.Since(start)
		r.settle(c, acked(again...)...)
		if want := delay[string(again[0].Body)]; took < want-r.early() {
			r.Errorf("came back after %s, want %s", took, want)
		} else if took > want+r.Slack+r.late() {
			r.Errorf("came back after %s, want %s and %s of slack", took, want, r.Slack)
		}
	}
}

func settleNackLimit(r *rig) {
	c := r.connect()
	sent := r.bags("limit", 1)
	r.inject(sent...)
	got := r.receive(c, 1)
	if err := c.Settle(r.Context(), nacked(r.MaxDelay+time.Hour, got...)); err != nil {
		r.Fatalf("nack for longer than MaxDelay: %v", err)
	}
	r.quiet(c, min(r.moment(), r.MaxDelay/2), "delayed for as long as possible")
	if r.MaxDelay < r.Patience {
		r.settle(c, acked(r.receive(c, 1)...)...)
	}
}

func settleMixed(r *rig) {
	c := r.connect()
	if c.limits.Entries < 2 {
		return
	}
	sent := r.bags("mixed", min(4, c.limits.Entries))
	r.inject(sent...)
	got := r.receive(c, len(sent))
	delay := r.possible(r.Visibility + r.Slack + time.Second)
	start := time.Now()
	mixed := append(acked(got[0]), nacked(delay, got[1])...)
	if len(got) > 2 {
		mixed = append(mixed, nacked(0, got[2])...)
	}
	if len(got) > 3 {
		mixed = append(mixed, released(got[3])...)
	}
	if err := c.Settle(r.Context(), mixed); err != nil {
		r.Fatalf("Settle: %v", err)
	}
	atOnce := r.receive(c, len(got)-2)
	if took := time.Since(start); took >= r.Visibility {
		r.Errorf("nacked and released ones took %s: the lease of %s has brought them back", took, r.Visibility)
	}
	r.same("at once", atOnce, got[2:])
	r.settle(c, acked(atOnce...)...)
	later := r.receive(c, 1)
	if took := time.Since(start); took < delay-r.early() {
		r.Errorf("the one with a delay of %s took %s", delay, took)
	}
	r.same("later", later, got[1:2])
	r.settle(c, acked(later...)...)
	r.gone(c, "acknowledged")
}

// late is how long a fast answer may take.
func (r *rig) late() time.Duration {
	if r.Virtual {
		return time.Second
	}
	return 5 * time.Second
}

func settleAttempts(r *rig) {
	c := r.connect()
	r.inject(r.bag("attempts"))
	for want := 1; want <= 4; want++ {
		got := r.receive(c, 1)
		if got[0].Attempt != want {
			r.Errorf("delivery %d says attempt %d", want, got[0].Attempt)
		}
		if want == 4 {
			r.settle(c, acked(got...)...)
		} else {
			r.settle(c, nacked(0, got...)...)
		}
	}
}

func settleNothing(r *rig) {
	c, other := r.connect(), r.connect()
	sent := r.bags("forgotten", 3)
	r.inject(sent...)
	start := time.Now()
	got := r.receive(c, len(sent))
	again := r.receive(other, 1)
	if took := time.Since(start); took < r.Visibility-r.early() {
		r.Errorf("came back after %s, the lease is %s", took, r.Visibility)
	}
	again = append(again, r.receive(other, len(sent)-1)...)
	r.same("received again", again, got)
	if r.Attempts && again[0].Attempt != 2 {
		r.Errorf("second delivery says attempt %d", again[0].Attempt)
	}
	r.settle(other, acked(again...)...)
}

func settleStale(r *rig) {
	c, other := r.connect(), r.connect()
	r.inject(r.bag("stale"))
	first := r.receive(c, 1)
	second := r.receive(other, 1) // once the lease of the first has ended
	for _, s := range [][]driver.Settlement{acked(first...), nacked(0, first...), released(first...)} {
		if err := c.Settle(r.Context(), s); !permanent(err) {
			r.Errorf("%s of the first delivery: got %v, want a permanent failure", s[0].Outcome, err)
		}
	}
	r.quiet(c, min(r.moment(), r.Visibility/4), "in flight by the second delivery")
	// The second delivery is not touched by it, in either way.
	r.settle(other, nacked(0, second...)...)
	third := r.receive(other, 1)
	r.settle(other, acked(third...)...)
}

func settlePartial(r *rig) {
	c := r.connect()
	sent := r.bags("settle", min(3, c.limits.Entries))
	r.inject(sent...)
	got := r.receive(c, len(sent))
	last := len(got) - 1
	r.queue.Fail(Fault{Op: Settle, Entries: []int{last}})
	r.failures(c.Settle(r.Context(), acked(got...)), []int{last}, false)
	r.queue.Fail(Fault{Op: Settle})
	if err := c.Settle(r.Context(), acked(got[last])); err == nil || permanent(err) {
		r.Errorf("the broker fails for now: got %v, want a failure that is not permanent", err)
	}
	r.settle(c, nacked(0, got[last])...)
	again := r.receive(c, 1)
	r.same("received again", again, got[last:])
	r.settle(c, acked(again...)...)
	r.gone(c, "settled")
}

func settleOrder(r *rig) {
	c := r.connect()
	sent := grouped("g", r.bags("order", 4))
	r.inject(sent...)
	first := r.receive(c, 1)
	var delay time.Duration
	if r.Delay {
		delay = r.possible(r.Slack + time.Second)
	}
	r.settle(c, nacked(delay, first...)...)
	var got []driver.Bag
	for range sent {
		bags := r.receive(c, 1)
		r.settle(c, acked(bags...)...)
		got = append(got, bags...)
	}
	r.inOrder("the group", bodies(got), bodies(sent))
}

// possible is a delay that the broker is able to keep.
func (r *rig) possible(delay time.Duration) time.Duration {
	if r.MaxDelay > 0 {
		return min(delay, r.MaxDelay)
	}
	return delay
}

func extendLease(r *rig) {
	c, other := r.connect(), r.connect()
	sent := r.bags("extend", min(2, c.limits.Entries))
	r.inject(sent...)
	start := time.Now()
	got := r.receive(c, len(sent))
	bags := make([]*driver.Bag, len(got))
	for i := range got {
		bags[i] = &got[i]
	}
	// Twice: the second time, the lease that the receive has given is over.
	for i := range 2 {
		pause(r.Context(), time.Until(start.Add(time.Duration(i)*r.Visibility+r.Visibility/2)))
		if err := c.Extend(r.Context(), bags, r.Visibility+r.Slack); err != nil {
			r.Fatalf("Extend %d: %v", i, err)
		}
	}
	extended := time.Now()
	again := r.receive(other, len(got))
	if took := time.Since(extended); took < r.Visibility+r.Slack-r.early() {
		r.Errorf("came back %s after it was extended by %s", took, r.Visibility+r.Slack)
	} else if limit := r.Visibility + 2*r.Slack + r.late(); took > limit {
		r.Errorf("came back %s after it was extended by %s", took, r.Visibility+r.Slack)
	}
	r.same("received again", again, sent)
	r.settle(other, acked(again...)...)
}

func extendStale(r *rig) {
	c, other := r.connect(), r.connect()
	r.inject(r.bag("stale"))
	first := r.receive(c, 1)
	second := r.receive(other, 1)
	if err := c.Extend(r.Context(), []*driver.Bag{&first[0]}, r.Visibility); !permanent(err) {
		r.Errorf("extend of the first delivery: got %v, want a permanent failure", err)
	}
	r.settle(other, acked(second...)...)
	if err := other.Extend(r.Context(), []*driver.Bag{&second[0]}, r.Visibility); !permanent(err) {
		r.Errorf("extend of an acknowledged delivery: got %v, want a permanent failure", err)
	}
}

func closeOne(r *rig) {
	first := r.open()
	sent := r.bags("kept", 2)
	if r.ListenOnly {
		r.inject(sent...)
	} else {
		r.send(first, sent...)
	}
	if err := first.Close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	more := r.bags("more", 1)
	r.emit(more...)
	r.same("arrived", r.arrivals(3), append(sent, more...))
}

func concurrent(r *rig) {
	const conns, each = 4, 50
	var sent [][]driver.Bag
	for i := range conns {
		sent = append(sent, r.bags(fmt.Sprintf("sender %d", i), each))
	}
	want := slices.Concat(sent...)
	var senders, receivers sync.WaitGroup
	if r.ListenOnly {
		r.inject(want...)
	} else {
		for i := range conns {
			c := r.connect()
			for batch := range batches(c.limits, sent[i]) {
				senders.Go(func() { r.send(c, batch...) })
			}
		}
	}
	if r.EmitOnly {
		senders.Wait()
		r.same("arrived", r.arrivals(len(want)), want)
		r.stragglers("more than was sent")
		return
	}
	var mu sync.Mutex
	var got []driver.Bag
	ctx, cancel := context.WithTimeout(r.Context(), r.Patience)
	defer cancel()
	for range conns {
		c := r.connect()
		receivers.Go(func() {
			for ctx.Err() == nil {
				bags, err := c.Receive(ctx, 7)
				if ctx.Err() == nil && err != nil {
					r.Errorf("Receive: %v", err)
					return
				}
				r.settle(c, acked(bags...)...)
				mu.Lock()
				got = append(got, bags...)
				done := len(got) >= len(want)
				mu.Unlock()
				if done {
					cancel()
				} else if len(bags) == 0 {
					pause(ctx, r.tick())
				}
			}
		})
	}
	senders.Wait()
	receivers.Wait()
	r.same("received", got, want)
}
