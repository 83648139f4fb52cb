package qtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
)

// mutant is a good broker, or the kernel on it, broken in one way.
type mutant struct {
	name   string
	on     broker
	broker func() func(full) full // makes, for a queue, what wraps its connections
	kernel func() sabotage        // makes, for a case, what breaks its kernels
	caught []string               // by these cases
}

// TestBroken proves that the suite fails on broken brokers and kernels, by the cases
// that are meant to.
func TestBroken(t *testing.T) {
	byName := map[string]Case{}
	for _, c := range Cases() {
		byName[c.Name()] = c
	}
	for _, m := range slices.Concat(brokenBrokers, brokenKernels) {
		t.Run(m.name, func(t *testing.T) {
			for _, name := range m.caught {
				c, ok := byName[name]
				if !ok {
					t.Fatalf("there is no case %q", name)
				}
				if missing := c.Missing(m.on.features); len(missing) > 0 {
					t.Fatalf("%q does not apply: needs %v", name, missing)
				}
				result, log := m.suite().attempt(t, c)
				if result.Outcome != Failed {
					t.Errorf("not caught by %q\n%s", name, strings.Join(log, "\n"))
					continue
				}
				first, _, _ := strings.Cut(result.Detail[0], "\n")
				t.Logf("%s: %s", name, first)
			}
		})
	}
}

func (m mutant) suite() suite {
	s := suite{open: m.on.open(m.broker), features: m.on.features.withDefaults(), broken: m.kernel}
	s.features.Messages = 200
	return s
}

// TestCaught: a case that no broken broker fails is not yet a case.
func TestCaught(t *testing.T) {
	caught := map[string]bool{}
	for _, m := range slices.Concat(brokenBrokers, brokenKernels) {
		for _, name := range m.caught {
			caught[name] = true
		}
	}
	for _, c := range Cases() {
		if !caught[c.Name()] {
			t.Errorf("no broken broker fails %q", c.Name())
		}
	}
}

// Makers of broken brokers.

func conns(broken func(d full) *tampered) func() func(full) full {
	return func() func(full) full { return func(d full) full { return broken(d) } }
}

func sends(change func(*driver.Bag)) func() func(full) full {
	return conns(func(d full) *tampered { return &tampered{full: d, send: each(d.Send, change)} })
}

func receives(change func(*driver.Bag)) func() func(full) full {
	return conns(func(d full) *tampered { return &tampered{full: d, receive: received(d, change)} })
}

func settles(change func(*driver.Settlement)) func() func(full) full {
	return conns(func(d full) *tampered { return &tampered{full: d, settle: each(d.Settle, change)} })
}

// forgets passes on the settlements but those of an outcome.
func forgets(outcome driver.Outcome) func(d full) *tampered {
	return func(d full) *tampered {
		return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
			rest := slices.DeleteFunc(slices.Clone(s), func(s driver.Settlement) bool { return s.Outcome == outcome })
			if len(rest) == 0 {
				return nil
			}
			return d.Settle(ctx, rest)
		}}
	}
}

// answers changes the errors of all calls.
func answers(change func(error) error) func(d full) *tampered {
	return func(d full) *tampered {
		return &tampered{
			full: d,
			send: func(ctx context.Context, bags []driver.Bag) error { return change(d.Send(ctx, bags)) },
			receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				bags, err := d.Receive(ctx, max)
				return bags, change(err)
			},
			settle: func(ctx context.Context, s []driver.Settlement) error { return change(d.Settle(ctx, s)) },
			extend: func(ctx context.Context, bags []*driver.Bag, by time.Duration) error {
				return change(d.Extend(ctx, bags, by))
			},
		}
	}
}

func swallowPartial(err error) error {
	if _, ok := errors.AsType[*driver.BatchError](err); ok {
		return nil
	}
	return err
}

func failWhole(err error) error {
	if batch, ok := errors.AsType[*driver.BatchError](err); ok {
		return batch.Failed[0].Err
	}
	return err
}

// blame makes failures permanent, or none.
func blame(permanent bool) func(error) error {
	one := func(err error) error {
		if permanent {
			return driver.Permanent(err)
		}
		return errors.New(err.Error())
	}
	return func(err error) error {
		if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		batch, ok := errors.AsType[*driver.BatchError](err)
		if !ok {
			return one(err)
		}
		changed := &driver.BatchError{}
		for _, f := range batch.Failed {
			changed.Failed = append(changed.Failed, driver.Failure{Index: f.Index, Err: one(f.Err), Permanent: permanent})
		}
		return changed
	}
}

// everyNth calls f for every nth message.
func everyNth(n int, f func(bags []driver.Bag, i int) []driver.Bag) func() func(full) full {
	return func() func(full) full {
		var mu sync.Mutex
		count := 0
		return func(d full) full {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				mu.Lock()
				var changed []driver.Bag
				for i := range bags {
					if count++; count%n == 0 {
						changed = append(changed, f(bags, i)...)
					} else {
						changed = append(changed, bags[i])
					}
				}
				mu.Unlock()
				if len(changed) == 0 {
					return nil
				}
				for batch := range slices.Chunk(changed, d.Limits().Entries) {
					if err := d.Send(ctx, batch); err != nil {
						return err
					}
				}
				return nil
			}}
		}
	}
}

func lost([]driver.Bag, int) []driver.Bag { return nil }

func doubled(bags []driver.Bag, i int) []driver.Bag {
	again := bags[i]
	again.ID += "-again"
	return []driver.Bag{bags[i], again}
}

// brokenBrokers are brokers that break the contract of the seam.
var brokenBrokers = []mutant{
	{name: "does not say that it keeps order", on: fifo,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, limits: func(l *driver.Limits) { l.Ordered = false }}
		}),
		caught: []string{"D0 features: the driver is what its features say"}},
	{name: "does not say which attempt it is", on: standard,
		broker: receives(func(bag *driver.Bag) { bag.Attempt = 0 }),
		caught: []string{"D0 features: the driver is what its features say"}},

	{name: "trims spaces", on: standard,
		broker: sends(func(bag *driver.Bag) { bag.Body = []byte(strings.TrimSpace(string(bag.Body))) }),
		caught: []string{
			"D1 body: text arrives as it was sent",
			"D1 body: bytes of any kind arrive unaltered",
		}},
	{name: "replaces bytes that are no text", on: emitOnly,
		broker: sends(func(bag *driver.Bag) { bag.Body = []byte(strings.ToValidUTF8(string(bag.Body), "\ufffd")) }),
		caught: []string{
			"D1 body: bytes of any kind arrive unaltered",
			"E2 kinds: values, events and bytes arrive as they were encoded",
		}},
	{name: "drops empty bodies", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				return d.Send(ctx, slices.DeleteFunc(slices.Clone(bags), func(bag driver.Bag) bool { return len(bag.Body) == 0 }))
			}}
		}),
		caught: []string{"D1 body: an empty one arrives empty, or is refused for good"}},
	{name: "accepts empty bodies it cannot carry", on: modest,
		broker: sends(func(bag *driver.Bag) {
			if len(bag.Body) == 0 {
				bag.Body = []byte(" ")
			}
		}),
		caught: []string{"D1 body: an empty one arrives empty, or is refused for good"}},
	{name: "cuts long bodies", on: standard,
		broker: sends(func(bag *driver.Bag) { bag.Body = bag.Body[:min(len(bag.Body), 1<<16)] }),
		caught: []string{"D1 body: the largest one arrives whole"}},
	{name: "loses attributes", on: listenOnly,
		broker: receives(func(bag *driver.Bag) { bag.Attrs = nil }),
		caught: []string{"D1 attributes: names and values arrive unaltered"}},
	{name: "loses empty attributes", on: standard,
		broker: receives(func(bag *driver.Bag) {
			maps.DeleteFunc(bag.Attrs, func(_, value string) bool { return value == "" })
		}),
		caught: []string{"D1 attributes: names and values arrive unaltered"}},
	{name: "cuts categories at the bracket", on: standard,
		broker: receives(func(bag *driver.Bag) { bag.Category, _, _ = strings.Cut(bag.Category, "[") }),
		caught: []string{"D1 category: any that a type can have arrives"}},
	{name: "forgets the source", on: standard,
		broker: receives(func(bag *driver.Bag) { bag.Source = "" }),
		caught: []string{"D1 source: the sender's name arrives"}},
	{name: "gives messages IDs of its own", on: standard,
		broker: receives(func(bag *driver.Bag) { bag.ID = "own-" + bag.ID }),
		caught: []string{"D1 id: the sender's ID arrives"}},

	{name: "sends the first of a batch only", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error { return d.Send(ctx, bags[:1]) }}
		}),
		caught: []string{"D2 batch: a full one arrives, each message once"}},
	{name: "delivers a batch twice", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				return errors.Join(d.Send(ctx, bags), d.Send(ctx, bags))
			}}
		}),
		caught: []string{
			"D2 batch: a full one arrives, each message once",
			"D6 concurrent: many connections and goroutines, each message once",
		}},
	{name: "delivers one in twenty twice", on: standard, broker: everyNth(20, doubled),
		caught: []string{
			"D2 batch: a full one arrives, each message once",
			"D6 concurrent: many connections and goroutines, each message once",
			"E4 accounting: thousands of values of many channels arrive, each once",
			"L2 accounting: many kernels share a queue, each message is delivered once",
		}},
	{name: "loses one in twenty", on: emitOnly, broker: everyNth(20, lost),
		caught: []string{
			"D2 batch: a full one arrives, each message once",
			"D6 concurrent: many connections and goroutines, each message once",
			"E4 accounting: thousands of values of many channels arrive, each once",
		}},
	{name: "reads the bags after Send has returned", on: standard, broker: lazily,
		caught: []string{"D2 ownership: the caller may reuse slice and bags when Send has returned"}},
	{name: "swallows partial failures", on: standard, broker: conns(answers(swallowPartial)),
		caught: []string{
			"D2 partial failure: names the entries that the broker refused, the others arrive",
			"D4 partial failure: names the entries that the broker refused, the others are settled",
			"D4 stale: a delivery whose lease has passed on settles nothing",
			"D5 extend: fails for good when the lease has passed on",
		}},
	{name: "fails the whole batch on a partial failure", on: fifo, broker: conns(answers(failWhole)),
		caught: []string{
			"D2 partial failure: names the entries that the broker refused, the others arrive",
			"D4 partial failure: names the entries that the broker refused, the others are settled",
		}},
	{name: "blames the caller for every failure", on: standard, broker: conns(answers(blame(true))),
		caught: []string{
			"D2 partial failure: names the entries that the broker refused, the others arrive",
			"D2 failure: permanent when the sender is at fault, and only then",
			"D3 failure: permanent when repeating is pointless, and only then; loses nothing",
			"D4 partial failure: names the entries that the broker refused, the others are settled",
		}},
	{name: "blames the caller for no failure", on: standard, broker: conns(answers(blame(false))),
		caught: []string{
			"D2 partial failure: names the entries that the broker refused, the others arrive",
			"D2 failure: permanent when the sender is at fault, and only then",
			"D3 failure: permanent when repeating is pointless, and only then; loses nothing",
			"D4 stale: a delivery whose lease has passed on settles nothing",
			"D5 extend: fails for good when the lease has passed on",
		}},
	{name: "cuts what is too large", on: emitOnly,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d,
				limits: func(l *driver.Limits) { l.Check = nil },
				send:   each(d.Send, func(bag *driver.Bag) { bag.Body = bag.Body[:min(len(bag.Body), maxPacked)] }),
			}
		}),
		caught: []string{
			"D2 oversize: refused for good",
			"E5 retry: what is too large is not sent at all, its neighbours arrive",
		}},
	{name: "thinks that what is too large might pass later", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d,
				limits: func(l *driver.Limits) { l.Check = nil },
				send:   func(ctx context.Context, bags []driver.Bag) error { return blame(false)(d.Send(ctx, bags)) },
			}
		}),
		caught: []string{"D2 oversize: refused for good"}},
	{name: "checks nothing", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, limits: func(l *driver.Limits) { l.Check = func(*driver.Bag) error { return nil } }}
		}),
		caught: []string{
			"D2 oversize: refused for good",
			"E5 retry: what is too large is not sent at all, its neighbours arrive",
		}},
	{name: "hangs in Send when the context has ended", on: emitOnly,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				if ctx.Err() != nil {
					time.Sleep(time.Minute)
				}
				return d.Send(ctx, bags)
			}}
		}),
		caught: []string{"D2 cancel: Send returns at once when its context has ended"}},
	{name: "calls an ended context the sender's fault", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				return driver.Permanent(d.Send(ctx, bags))
			}}
		}),
		caught: []string{"D2 cancel: Send returns at once when its context has ended"}},
	{name: "forgets the dedup key", on: fifo,
		broker: sends(func(bag *driver.Bag) { bag.Dedup = "" }),
		caught: []string{"D2 dedup: of two messages with one key one arrives"}},

	{name: "receives more than it was asked for", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, _ int) ([]driver.Bag, error) { return d.Receive(ctx, 10) }}
		}),
		caught: []string{"D3 max: Receive returns no more than it was asked for"}},
	{name: "calls an empty queue an error", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				bags, err := d.Receive(ctx, max)
				if len(bags) == 0 && err == nil {
					err = errors.New("broker: nothing there")
				}
				return bags, err
			}}
		}),
		caught: []string{"D3 empty: Receive answers with nothing and no error, after its wait"}},
	{name: "answers at once though it says that it waits", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
				defer cancel()
				bags, _ := d.Receive(ctx, max)
				return bags, nil
			}}
		}),
		caught: []string{"D3 empty: Receive answers with nothing and no error, after its wait"}},
	{name: "waits for ever on an empty queue", on: listenOnly,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				for {
					if bags, err := d.Receive(ctx, max); len(bags) > 0 || err != nil {
						return bags, err
					}
				}
			}}
		}),
		caught: []string{"D3 empty: Receive answers with nothing and no error, after its wait"}},
	{name: "drops messages while nobody listens", on: standard, broker: notYetListening,
		caught: []string{"D3 late: messages wait for their receiver"}},
	{name: "hands out the bytes it keeps", on: standard, broker: sharedBytes,
		caught: []string{"D3 ownership: the receiver may change what it received"}},
	{name: "gives each delivery an ID of its own", on: modest, broker: freshIDs,
		caught: []string{"D3 id: the same for each delivery, different for each message"}},
	{name: "gives all messages one ID", on: listenOnly,
		broker: receives(func(bag *driver.Bag) { bag.ID = "message" }),
		caught: []string{"D3 id: the same for each delivery, different for each message"}},
	{name: "takes seconds for hours", on: standard,
		broker: receives(func(bag *driver.Bag) { bag.SentAt = bag.SentAt.Add(-24 * time.Hour) }),
		caught: []string{"D3 time: says when the broker took the message"}},
	{name: "offers messages in flight to others", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				bags, err := d.Receive(ctx, max)
				return bags, errors.Join(err, d.Settle(ctx, released(bags...)))
			}}
		}),
		caught: []string{"D3 exclusive: a message in flight is offered to nobody else"}},
	{name: "says that leases last for an hour", on: standard,
		broker: receives(func(bag *driver.Bag) { bag.Lease = bag.Lease.Add(time.Hour) }),
		caught: []string{"D3 lease: says when the message would be offered again"}},
	{name: "receives on when the context has ended", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				return d.Receive(context.WithoutCancel(ctx), max)
			}}
		}),
		caught: []string{"D3 cancel: Receive returns at once when its context ends"}},
	{name: "drops what it receives when the context has ended", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				answer := make(chan []driver.Bag, 1)
				go func() {
					bags, _ := d.Receive(context.WithoutCancel(ctx), max)
					answer <- bags
				}()
				select {
				case bags := <-answer:
					return bags, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}}
		}),
		caught: []string{"D3 cancel: a cancelled Receive loses nothing"}},
	{name: "swaps messages of a group", on: fifo,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				bags, err := d.Receive(ctx, max)
				slices.Reverse(bags)
				return bags, err
			}}
		}),
		caught: []string{"D3 order: messages of one group arrive in order"}},
	{name: "knows no groups", on: fifo, broker: groupless,
		caught: []string{
			"D3 groups: none of a group is offered while one before it is in flight",
			"D4 order: a nacked message comes before the rest of its group",
			"L9 order: a group waits for its failed message, other groups go on",
		}},

	{name: "drops an ack", on: standard, broker: conns(forgets(driver.Ack)),
		caught: []string{
			"D4 ack: removes the message",
			"D4 mixed: each entry of a batch has its own outcome",
			"L2 ack: removes the message at the broker",
			"L7 lease: extended while a message waits or is worked on, not after its ack",
			"L8 at most once: acknowledged before it is handed over, never comes back",
			"C1 Close: settles the acknowledgements that are under way",
		}},
	{name: "removes the batch when one of it is acknowledged", on: modest, broker: ackAll,
		caught: []string{"D4 ack: leaves the rest of the batch"}},
	{name: "fails a second ack for now", on: standard, broker: secondAckFails,
		caught: []string{"D4 ack: twice does no harm"}},
	{name: "takes a nack for an ack", on: standard,
		broker: settles(func(s *driver.Settlement) {
			if s.Outcome == driver.Nack {
				s.Outcome = driver.Ack
			}
		}),
		caught: []string{
			"D4 nack: the message comes back at once",
			"D4 attempts: counts deliveries from 1",
			"L3 nack: settles at once, the message comes back at once the first time",
		}},
	{name: "lets the lease run out in place of a nack", on: standard, broker: conns(forgets(driver.Nack)),
		caught: []string{
			"D4 nack: the message comes back at once",
			"D4 nack: the message comes back after the delay, not before",
			"D4 mixed: each entry of a batch has its own outcome",
			"L3 nack: settles at once, the message comes back at once the first time",
		}},
	{name: "ignores the delay of a nack", on: standard,
		broker: settles(func(s *driver.Settlement) { s.Delay = 0 }),
		caught: []string{
			"D4 nack: the message comes back after the delay, not before",
			"D4 mixed: each entry of a batch has its own outcome",
			"L3 nack: RetryAfter overrides the policy",
		}},
	{name: "refuses long delays", on: fifo,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
				if slices.ContainsFunc(s, func(s driver.Settlement) bool { return s.Delay > 5*time.Minute }) {
					return driver.Permanent(errors.New("broker: delay is too long"))
				}
				return d.Settle(ctx, s)
			}}
		}),
		caught: []string{"D4 nack: a delay above the limit counts as the limit"}},
	{name: "forgets a release", on: standard, broker: conns(forgets(driver.Release)),
		caught: []string{
			"D4 release: the message comes back at once",
			"D4 mixed: each entry of a batch has its own outcome",
			"C1 Close: releases what was not handed over, and closes deq",
			"C1 Close: under load, the other kernels of the queue get the rest, each message once",
		}},
	{name: "settles a batch like its first entry", on: fifo,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
				return each(d.Settle, func(x *driver.Settlement) { x.Outcome, x.Delay = s[0].Outcome, s[0].Delay })(ctx, s)
			}}
		}),
		caught: []string{"D4 mixed: each entry of a batch has its own outcome"}},
	{name: "counts no attempts", on: fifo,
		broker: receives(func(bag *driver.Bag) { bag.Attempt = 1 }),
		caught: []string{
			"D4 attempts: counts deliveries from 1",
			"D4 visibility: an unsettled message comes back after its lease, not before",
			"L3 nack: settles at once, the message comes back at once the first time",
		}},
	{name: "never ends a lease", on: standard, broker: leaseOf(1000 * time.Hour),
		caught: []string{
			"D4 visibility: an unsettled message comes back after its lease, not before",
			"D4 stale: a delivery whose lease has passed on settles nothing",
		}},
	{name: "ends leases too early", on: listenOnly, broker: leaseOf(20 * time.Second),
		caught: []string{"D4 visibility: an unsettled message comes back after its lease, not before"}},
	{name: "has one handle for all deliveries of a message", on: standard, broker: oneHandle,
		caught: []string{
			"D4 stale: a delivery whose lease has passed on settles nothing",
			"D5 extend: fails for good when the lease has passed on",
		}},
	{name: "puts a nacked message behind its group", on: fifo, broker: conns(behindGroup),
		caught: []string{
			"D4 order: a nacked message comes before the rest of its group",
			"L9 order: a group waits for its failed message, other groups go on",
		}},

	{name: "does not extend leases", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, extend: func(context.Context, []*driver.Bag, time.Duration) error { return nil }}
		}),
		caught: []string{
			"D5 extend: keeps the lease, from now on",
			"D5 extend: fails for good when the lease has passed on",
			"L7 lease: extended while a message waits or is worked on, not after its ack",
		}},
	{name: "extends leases for ever", on: fifo,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, extend: func(ctx context.Context, bags []*driver.Bag, by time.Duration) error {
				return d.Extend(ctx, bags, by+time.Hour)
			}}
		}),
		caught: []string{"D5 extend: keeps the lease, from now on"}},

	{name: "empties the queue when a connection is closed", on: modest,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, close: func() error {
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				defer cancel()
				for bags, _ := d.Receive(ctx, 10); len(bags) > 0; bags, _ = d.Receive(ctx, 10) {
					_ = d.Settle(context.Background(), acked(bags...))
				}
				return d.Close()
			}}
		}),
		caught: []string{"D6 close: ends a connection, not the queue"}},
	{name: "panics", on: standard,
		broker: conns(func(d full) *tampered {
			return &tampered{full: d, send: func(context.Context, []driver.Bag) error { panic("broker: nil dereference") }}
		}),
		caught: []string{"D1 body: text arrives as it was sent"}},
}

// lazily sends a batch when the next call comes.
func lazily() func(full) full {
	var mu sync.Mutex
	pending := func() {}
	flush := func() {
		mu.Lock()
		defer mu.Unlock()
		pending()
		pending = func() {}
	}
	return func(d full) full {
		return &tampered{full: d,
			send: func(_ context.Context, bags []driver.Bag) error {
				flush()
				mu.Lock()
				defer mu.Unlock()
				pending = func() { _ = d.Send(context.Background(), bags) }
				return nil
			},
			receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				flush()
				return d.Receive(ctx, max)
			},
		}
	}
}

func notYetListening() func(full) full {
	var mu sync.Mutex
	listening := false
	return func(d full) full {
		return &tampered{full: d,
			send: func(ctx context.Context, bags []driver.Bag) error {
				mu.Lock()
				defer mu.Unlock()
				if !listening {
					return nil
				}
				return d.Send(ctx, bags)
			},
			receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				mu.Lock()
				listening = true
				mu.Unlock()
				return d.Receive(ctx, max)
			},
		}
	}
}

func sharedBytes() func(full) full {
	var mu sync.Mutex
	kept := map[string][]byte{}
	return func(d full) full {
		return &tampered{full: d, receive: received(d, func(bag *driver.Bag) {
			mu.Lock()
			defer mu.Unlock()
			if body, ok := kept[bag.ID]; ok {
				bag.Body = body
			}
			kept[bag.ID] = bag.Body
		})}
	}
}

func freshIDs() func(full) full {
	var mu sync.Mutex
	n := 0
	return func(d full) full {
		return &tampered{full: d, receive: received(d, func(bag *driver.Bag) {
			mu.Lock()
			defer mu.Unlock()
			n++
			bag.ID = fmt.Sprintf("delivery-%d", n)
		})}
	}
}

// groupless hides groups from the broker.
func groupless() func(full) full {
	const attr = "group"
	return func(d full) full {
		return &tampered{full: d,
			send: each(d.Send, func(bag *driver.Bag) {
				bag.Attrs = map[string]string{attr: bag.Group}
				bag.Group = bag.ID
			}),
			receive: received(d, func(bag *driver.Bag) { bag.Group = bag.Attrs[attr] }),
		}
	}
}

func ackAll() func(full) full {
	var mu sync.Mutex
	batch := map[string][]driver.Bag{}
	return func(d full) full {
		return &tampered{full: d,
			receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				bags, err := d.Receive(ctx, max)
				mu.Lock()
				defer mu.Unlock()
				for _, bag := range bags {
					batch[bag.ID] = bags
				}
				return bags, err
			},
			settle: func(ctx context.Context, s []driver.Settlement) error {
				mu.Lock()
				defer mu.Unlock()
				for _, x := range s {
					if x.Outcome == driver.Ack {
						_ = d.Settle(ctx, acked(batch[x.Bag.ID]...))
					} else if err := d.Settle(ctx, []driver.Settlement{x}); err != nil {
						return nil // it is gone, and nobody is told
					}
				}
				return nil
			},
		}
	}
}

func secondAckFails() func(full) full {
	var mu sync.Mutex
	seen := map[any]bool{}
	return func(d full) full {
		return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
			mu.Lock()
			defer mu.Unlock()
			for _, x := range s {
				if seen[x.Bag.Handle] {
					return errors.New("broker: try again")
				}
				seen[x.Bag.Handle] = true
			}
			return d.Settle(ctx, s)
		}}
	}
}

func leaseOf(by time.Duration) func() func(full) full {
	return conns(func(d full) *tampered {
		return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
			bags, err := d.Receive(ctx, max)
			for i := range bags {
				_ = d.Extend(ctx, []*driver.Bag{&bags[i]}, by)
			}
			return bags, err
		}}
	})
}

func oneHandle() func(full) full {
	var mu sync.Mutex
	latest := map[any]any{}
	real := func(bag driver.Bag) *driver.Bag {
		mu.Lock()
		defer mu.Unlock()
		bag.Handle = latest[bag.Handle]
		return &bag
	}
	return func(d full) full {
		return &tampered{full: d,
			receive: received(d, func(bag *driver.Bag) {
				mu.Lock()
				defer mu.Unlock()
				latest[bag.ID] = bag.Handle
				bag.Handle = bag.ID
			}),
			settle: each(d.Settle, func(s *driver.Settlement) { s.Bag = real(*s.Bag) }),
			extend: func(ctx context.Context, bags []*driver.Bag, by time.Duration) error {
				return each(func(ctx context.Context, bags []*driver.Bag) error { return d.Extend(ctx, bags, by) },
					func(bag **driver.Bag) { *bag = real(**bag) })(ctx, bags)
			},
		}
	}
}

func behindGroup(d full) *tampered {
	return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
		for _, x := range s {
			if x.Outcome == driver.Nack {
				again := *x.Bag
				again.ID += "-again"
				if err := d.Send(ctx, []driver.Bag{again}); err != nil {
					return err
				}
				x.Outcome = driver.Ack
			}
			if err := d.Settle(ctx, []driver.Settlement{x}); err != nil {
				return err
			}
		}
		return nil
	}}
}

// Makers of broken kernels.

// between puts a wrapper between the kernel and the broker.
func between(broken func(d full) *tampered) func() sabotage {
	return func() sabotage { return sabotage{driver: func(d full) full { return broken(d) }} }
}

func betweenAll(broken func() func(full) full) func() sabotage {
	return func() sabotage { return sabotage{driver: broken()} }
}

func options(opts ...swarm.Option) func() sabotage {
	return func() sabotage { return sabotage{options: opts} }
}

// life is a kernel with another life cycle.
type life struct {
	swarm.Kernel
	run   func(context.Context) error
	close func() error
}

func (l life) Run(ctx context.Context) error {
	if l.run != nil {
		return l.run(ctx)
	}
	return l.Kernel.Run(ctx)
}

func (l life) Close() error {
	if l.close != nil {
		return l.close()
	}
	return l.Kernel.Close()
}

func living(broken func(swarm.Kernel) life) func() sabotage {
	return func() sabotage {
		return sabotage{life: func(k swarm.Kernel) swarm.Kernel { return broken(k) }}
	}
}

// whileClosing breaks calls from the moment on that Close is called.
func whileClosing(broken func(d full, closing func() bool) *tampered) func() sabotage {
	return func() sabotage {
		closing := make(chan struct{})
		return sabotage{
			driver: func(d full) full { return broken(d, func() bool { return isClosed(closing) }) },
			life: func(k swarm.Kernel) swarm.Kernel {
				return life{Kernel: k, close: func() error { close(closing); return k.Close() }}
			},
		}
	}
}

func deadContext(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// later makes a call when its caller has gone.
func later(after time.Duration, call func(context.Context, []driver.Bag) error) func(context.Context, []driver.Bag) error {
	return func(ctx context.Context, bags []driver.Bag) error {
		bags = slices.Clone(bags)
		go func() {
			time.Sleep(after)
			_ = call(context.WithoutCancel(ctx), bags)
		}()
		return nil
	}
}

// dropped hides received messages from the kernel, with those behind them.
func dropped(text string) func(d full) *tampered {
	return func(d full) *tampered {
		return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
			bags, err := d.Receive(ctx, max)
			for i, bag := range bags {
				if strings.Contains(string(bag.Body), text) {
					return bags[:i], err
				}
			}
			return bags, err
		}}
	}
}

// brokenKernels are kernels that break the contract of swarm, as far as it shows from
// outside: by what they make of the broker and its answers, by their options, and by
// their life cycle.
var brokenKernels = []mutant{
	{name: "sends later what came first", on: standard,
		kernel: func() sabotage {
			var mu sync.Mutex
			n := 0
			return sabotage{driver: func(d full) full {
				return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
					mu.Lock()
					n++
					odd := n%2 == 1
					mu.Unlock()
					if odd {
						return later(20*time.Millisecond, d.Send)(ctx, bags)
					}
					return d.Send(ctx, bags)
				}}
			}}
		},
		caught: []string{"E1 order: values sent on one channel reach the broker in that order"}},
	{name: "does not know that the broker keeps order", on: fifo,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, limits: func(l *driver.Limits) { l.Ordered = false }}
		}),
		caught: []string{
			"E1 groups: values of one group stay in order, whatever fails",
			"E1 groups: at most one entry of a group is in flight",
		}},
	{name: "does not know the groups of what it receives", on: fifo,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, receive: received(d, func(bag *driver.Bag) { bag.Group = "" })}
		}),
		caught: []string{"L9 order: a group waits for its failed message, other groups go on"}},
	{name: "confirms before the broker has", on: emitOnly,
		kernel: between(func(d full) *tampered { return &tampered{full: d, send: later(time.Millisecond, d.Send)} }),
		caught: []string{
			"E2 window: no more values are accepted than may be unconfirmed",
			"E6 sync: nil means that the broker has accepted, an error says why not",
			"C1 Close: delivers what was accepted, also from buffers",
		}},
	{name: "swallows failures of sends", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				_ = d.Send(ctx, bags)
				return nil
			}}
		}),
		caught: []string{
			"E2 delayed guarantee: after a failure the next send waits for dlq to be read",
			"E2 dlq: has what was refused for good, the cause is reported, the lane goes on",
			"E3 at most once: a failure goes to dlq, or is dropped and reported",
			"E4 accounting: a value is confirmed, on dlq or reported, whatever Close interrupts",
			"E5 retry: attempts and delays are those of the policy",
			"E6 sync: nil means that the broker has accepted, an error says why not",
			"C4 dlq: unread, does not block Close",
		}},
	{name: "encodes bytes as text", on: standard,
		kernel: betweenAll(sends(func(bag *driver.Bag) { bag.Body = []byte(strings.ToValidUTF8(string(bag.Body), "?")) })),
		caught: []string{"E2 kinds: values, events and bytes arrive as they were encoded"}},
	{name: "has no buffers at most once", on: standard,
		kernel: options(swarm.WithEmitCapacity(0), swarm.WithEmitWindow(1)),
		caught: []string{"E3 at most once: a send waits for buffer space only"}},
	{name: "waits for dlq at most once", on: emitOnly,
		kernel: options(atMostOnce(false), swarm.WithDrainTimeout(time.Second)),
		caught: []string{
			"E3 at most once: a failure goes to dlq, or is dropped and reported",
		}},
	{name: "loses one value in ten", on: emitOnly, kernel: betweenAll(everyNth(10, lost)),
		caught: []string{
			"E1 order: values sent on one channel reach the broker in that order",
			"E4 accounting: a value is confirmed, on dlq or reported, whatever Close interrupts",
			"E4 accounting: thousands of values of many channels arrive, each once",
		}},
	{name: "loses the value behind one that failed", on: standard, kernel: betweenAll(everyNth(2, lost)),
		caught: []string{"E7 encode: a value that cannot be encoded goes to dlq, the next is not affected"}},
	{name: "sends each batch twice", on: emitOnly,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				_ = d.Send(ctx, bags)
				return d.Send(ctx, bags)
			}}
		}),
		caught: []string{
			"E4 accounting: thousands of values of many channels arrive, each once",
			"E5 retry: what is refused for good is not sent again",
		}},
	{name: "retries the whole batch", on: standard, kernel: between(answers(failWhole)),
		caught: []string{"E5 retry: what fails for now is sent again, the rest of its batch is not"}},
	{name: "retries nothing", on: standard, kernel: between(answers(blame(true))),
		caught: []string{
			"E1 order: values sent on one channel reach the broker in that order",
			"E5 retry: what fails for now is sent again, the rest of its batch is not",
			"E5 retry: attempts and delays are those of the policy",
			"L1 outage: a receive that fails is repeated, later and later, and loses nothing",
			"L2 ack: one that fails is repeated, then reported, and stops nothing",
		}},
	{name: "retries what was refused for good", on: emitOnly, kernel: between(answers(blame(false))),
		caught: []string{
			"E2 dlq: has what was refused for good, the cause is reported, the lane goes on",
			"E5 retry: what is refused for good is not sent again",
			"E6 sync: nil means that the broker has accepted, an error says why not",
		}},
	{name: "retries without a delay", on: standard, kernel: options(swarm.WithRetryConstant(0, 4)),
		caught: []string{"E5 retry: attempts and delays are those of the policy"}},
	{name: "sends what is too large", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, limits: func(l *driver.Limits) { l.Check = nil }}
		}),
		caught: []string{"E5 retry: what is too large is not sent at all, its neighbours arrive"}},
	{name: "goes on when the context of Enq has ended", on: emitOnly,
		kernel: func() sabotage {
			return sabotage{enqueue: func(q emit.Emitter) enqueueFunc {
				return func(ctx context.Context, bag *driver.Bag) error {
					return q.Enqueue(context.WithoutCancel(ctx), bag)
				}
			}}
		},
		caught: []string{"E6 sync: ends with its context"}},
	{name: "sends one by one", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				for i := range bags {
					if err := d.Send(ctx, bags[i:i+1]); err != nil {
						return err
					}
				}
				return nil
			}}
		}),
		caught: []string{"E8 batching: values that are ready together travel together"}},
	{name: "knows no limits", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, limits: func(l *driver.Limits) { l.Entries, l.Bytes = 4*l.Entries, 0 }}
		}),
		caught: []string{
			"E8 batching: no request exceeds the limits of the broker",
			"L1 micro-batch: no more messages are in flight than pollers times batch size",
		}},
	{name: "waits for company", on: emitOnly,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				pause(ctx, 4*time.Second)
				return d.Send(ctx, bags)
			}}
		}),
		caught: []string{"E8 batching: a lone value does not wait for others"}},
	{name: "has one request in flight", on: emitOnly, kernel: oneAtATime,
		caught: []string{"E8 batching: a hung request does not hold up another channel"}},

	{name: "pauses after each receive", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				bags, err := d.Receive(ctx, max)
				pause(context.WithoutCancel(ctx), time.Minute)
				return bags, err
			}}
		}),
		caught: []string{"L1 no pause: asks again at once after a receive that gave messages"}},
	{name: "asks again at once after a receive that failed", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				bags, err := d.Receive(ctx, max)
				if ctx.Err() == nil {
					err = nil
				}
				return bags, err
			}}
		}),
		caught: []string{
			"L1 outage: a receive that fails is repeated, later and later, and loses nothing",
		}},
	{name: "decodes bytes as text", on: standard,
		kernel: betweenAll(receives(func(bag *driver.Bag) { bag.Body = []byte(strings.ToValidUTF8(string(bag.Body), "?")) })),
		caught: []string{"L2 kinds: values, events and bytes arrive decoded, with what is known of them"}},
	{name: "tells nothing about a message", on: listenOnly,
		kernel: between(func(d full) *tampered { return &tampered{full: d, receive: forgetful(d)} }),
		caught: []string{"L2 kinds: values, events and bytes arrive decoded, with what is known of them"}},
	{name: "forgets acknowledgements", on: listenOnly, kernel: between(forgets(driver.Ack)),
		caught: []string{
			"L2 ack: removes the message at the broker",
			"C5 Run: serves until its context ends, then drains",
		}},
	{name: "acknowledges one by one", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
				for i := range s {
					if err := d.Settle(ctx, s[i:i+1]); err != nil {
						return err
					}
				}
				return nil
			}}
		}),
		caught: []string{"L2 ack: acknowledgements of a micro-batch travel together"}},
	{name: "swallows failures of settlements", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
				_ = d.Settle(ctx, s)
				return nil
			}}
		}),
		caught: []string{
			"L2 ack: one that fails is repeated, then reported, and stops nothing",
			"C1 Close: says exactly how many messages were not settled",
		}},
	{name: "hands a message over twice", on: listenOnly, kernel: handsOverTwice,
		caught: []string{
			"L2 accounting: many kernels share a queue, each message is delivered once",
			"C1 Close: under load, the other kernels of the queue get the rest, each message once",
		}},
	{name: "acknowledges what failed", on: standard,
		kernel: betweenAll(settles(func(s *driver.Settlement) {
			if s.Outcome == driver.Nack {
				s.Outcome = driver.Ack
			}
		})),
		caught: []string{
			"L3 nack: settles at once, the message comes back at once the first time",
			"L3 nack: comes back as the redelivery policy says for its attempt",
			"L3 nack: RetryAfter overrides the policy",
			"L5 isolation: neighbours of an undecodable message are delivered",
			"L6 unknown category: nacked, later each time, and reported",
			"L7 lease: the context of a message ends with its time to flight",
			"C1 Close: says exactly how many messages were not settled",
			"C2 after Close: a message may still come back on ack",
		}},
	{name: "offers what failed a millisecond later, always", on: standard,
		// Not at once: the kernel would ask in a loop, and virtual time would stop.
		kernel: betweenAll(settles(func(s *driver.Settlement) { s.Delay = time.Millisecond })),
		caught: []string{
			"L3 nack: comes back as the redelivery policy says for its attempt",
			"L3 nack: RetryAfter overrides the policy",
			"L4 one settlement: a late one does not touch the next delivery",
			"L5 isolation: neighbours of an undecodable message are delivered",
			"L5 isolation: neighbours of a message whose codec panics are delivered",
			"L6 unknown category: nacked, later each time, and reported",
		}},
	{name: "settles twice", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
				err := d.Settle(ctx, s)
				_ = d.Settle(ctx, s)
				return err
			}}
		}),
		caught: []string{
			"L2 ack: removes the message at the broker",
			"L4 one settlement: a second one is ignored and reported",
			"L4 one settlement: a forged or foreign one is ignored and reported",
		}},
	{name: "never expires what a consumer keeps", on: standard, kernel: options(swarm.WithTimeToFlight(24 * time.Hour)),
		caught: []string{
			"L4 one settlement: a late one does not touch the next delivery",
			"L7 lease: the context of a message ends with its time to flight",
		}},
	{name: "acknowledges before the consumer does", on: standard, kernel: options(atMostOnce(true)),
		caught: []string{
			"L3 nack: settles at once, the message comes back at once the first time",
			"L4 one settlement: a second one is ignored and reported",
			"L4 one settlement: a forged or foreign one is ignored and reported",
			"L7 lease: the context of a message ends when it is settled",
			"C1 Close: says exactly how many messages were not settled",
		}},
	{name: "waits for acknowledgements at most once", on: listenOnly, kernel: options(atMostOnce(false)),
		caught: []string{
			"L8 at most once: acknowledged before it is handed over, never comes back",
			"L8 at most once: settlements are ignored without a word",
		}},
	{name: "asks again only when all is settled", on: standard, kernel: lockstep,
		caught: []string{"L5 isolation: a hung consumer of one category does not stop another"}},
	{name: "drops the neighbours of a poison message", on: standard, kernel: between(dropped(`{"text":`)),
		caught: []string{"L5 isolation: neighbours of an undecodable message are delivered"}},
	{name: "drops the neighbours of a message whose codec panics", on: standard, kernel: between(dropped("panics")),
		caught: []string{"L5 isolation: neighbours of a message whose codec panics are delivered"}},
	{name: "drops messages nobody listens to", on: standard, kernel: between(dropped("stranger")),
		caught: []string{
			"L6 unknown category: nacked, later each time, and reported",
			"L6 unknown category: acknowledged and reported, if the policy says so",
			"L6 unknown category: goes to the catch-all, if there is one",
		}},
	{name: "takes another category for the default one", on: standard, kernel: options(swarm.WithDefaultCategory("other")),
		caught: []string{"L6 missing category: the default one counts"}},
	{name: "does not extend leases of its own", on: standard,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, extend: func(context.Context, []*driver.Bag, time.Duration) error { return nil }}
		}),
		caught: []string{
			"L7 lease: extended while a message waits or is worked on, not after its ack",
			"L7 lease: the context of a message ends when its lease is lost",
		}},
	{name: "extends leases after the ack", on: listenOnly,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
				err := d.Settle(ctx, s)
				for _, x := range s {
					pause(ctx, time.Millisecond)
					_ = d.Extend(ctx, []*driver.Bag{x.Bag}, time.Second)
				}
				return err
			}}
		}),
		caught: []string{"L7 lease: extended while a message waits or is worked on, not after its ack"}},

	{name: "keeps what was not handed over", on: standard, kernel: between(forgets(driver.Release)),
		caught: []string{
			"C1 Close: releases what was not handed over, and closes deq",
			"C1 Close: under load, the other kernels of the queue get the rest, each message once",
		}},
	{name: "settles with a dead context while closing", on: standard,
		kernel: whileClosing(func(d full, closing func() bool) *tampered {
			return &tampered{full: d, settle: func(ctx context.Context, s []driver.Settlement) error {
				if closing() {
					ctx = deadContext(ctx)
				}
				return d.Settle(ctx, s)
			}}
		}),
		caught: []string{
			"C1 Close: settles the acknowledgements that are under way",
			"C1 Close: releases what was not handed over, and closes deq",
		}},
	{name: "sends with a dead context while closing", on: emitOnly,
		kernel: whileClosing(func(d full, closing func() bool) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				if closing() {
					ctx = deadContext(ctx)
				}
				return d.Send(ctx, bags)
			}}
		}),
		caught: []string{"C1 Close: delivers what was accepted, also from buffers"}},
	{name: "refuses replies while closing", on: fifo,
		kernel: whileClosing(func(d full, closing func() bool) *tampered {
			return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
				if closing() {
					return driver.Permanent(swarm.ErrClosed)
				}
				return d.Send(ctx, bags)
			}}
		}),
		caught: []string{"C1 Close: delivers the replies that consumers emit while it waits for them"}},
	{name: "does nothing in Close", on: standard,
		kernel: living(func(k swarm.Kernel) life { return life{Kernel: k, close: func() error { return nil }} }),
		caught: []string{
			"E6 sync: refused after Close",
			"C1 Close: releases what was not handed over, and closes deq",
			"C2 after Close: sends are refused and reported, they neither panic nor hang",
			"C2 after Close: a channel made then refuses too",
			"C2 after Close: a message may still come back on ack",
			"C3 Close: may be called again and from many goroutines, the driver is closed once and last",
			"C3 Close: leaves no goroutine behind",
		}},
	{name: "tells nothing in Close", on: standard,
		kernel: living(func(k swarm.Kernel) life { return life{Kernel: k, close: func() error { _ = k.Close(); return nil }} }),
		caught: []string{
			"C1 Close: says exactly how many values were not delivered",
			"C1 Close: says exactly how many messages were not settled",
			"C3 Close: interrupts calls and retries of sends at its deadline",
			"C3 Close: interrupts calls of a poller at once, and settlements at its deadline",
			"C4 dlq: unread, does not block Close",
		}},
	{name: "is slow in Close", on: fifo,
		kernel: living(func(k swarm.Kernel) life {
			return life{Kernel: k, close: func() error { time.Sleep(time.Minute); return k.Close() }}
		}),
		caught: []string{
			"C3 Close: may be called again and from many goroutines, the driver is closed once and last",
			"C3 Close: interrupts calls and retries of sends at its deadline",
			"C3 Close: interrupts calls of a poller at once, and settlements at its deadline",
			"C4 dlq: unread, does not block Close",
			"C4 StdErr: unread, blocks neither consumers nor Close",
		}},
	{name: "closes the driver twice", on: emitOnly,
		kernel: between(func(d full) *tampered {
			return &tampered{full: d, close: func() error { return errors.Join(d.Close(), d.Close()) }}
		}),
		caught: []string{"C3 Close: may be called again and from many goroutines, the driver is closed once and last"}},
	{name: "runs on when the context of Run has ended", on: emitOnly,
		kernel: living(func(k swarm.Kernel) life {
			return life{Kernel: k, run: func(ctx context.Context) error { return k.Run(context.WithoutCancel(ctx)) }}
		}),
		caught: []string{"C5 Run: serves until its context ends, then drains"}},
	{name: "takes a second Run for a Close", on: standard,
		kernel: living(func(k swarm.Kernel) life {
			return life{Kernel: k, run: func(ctx context.Context) error {
				err := k.Run(ctx)
				if errors.Is(err, swarm.ErrRunning) {
					return k.Close()
				}
				return err
			}}
		}),
		caught: []string{"C5 Run: a second time is refused"}},
	{name: "runs on when the broker has failed for good", on: standard, kernel: between(answers(blame(false))),
		caught: []string{"C5 Run: ends with the cause when the broker fails for good"}},
}

// atMostOnce overrides the policy, whatever options came before.
func atMostOnce(yes bool) swarm.Option {
	return func(c *swarm.Config) error {
		c.AtMostOnce = yes
		return nil
	}
}

func oneAtATime() sabotage {
	busy := make(chan struct{}, 1)
	return sabotage{driver: func(d full) full {
		return &tampered{full: d, send: func(ctx context.Context, bags []driver.Bag) error {
			select {
			case busy <- struct{}{}:
				defer func() { <-busy }()
				return d.Send(ctx, bags)
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
	}}
}

func handsOverTwice() sabotage {
	var mu sync.Mutex
	n := 0
	return sabotage{driver: func(d full) full {
		return &tampered{full: d, receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
			bags, err := d.Receive(ctx, max)
			mu.Lock()
			defer mu.Unlock()
			if n += len(bags); len(bags) > 0 && n > 40 {
				n = 0
				bags = append(bags, bags[0])
			}
			return bags, err
		}}
	}}
}

// lockstep receives when everything received before is settled.
func lockstep() sabotage {
	return sabotage{driver: func(d full) full {
		var mu sync.Mutex
		open := 0
		idle := make(chan struct{}, 1)
		return &tampered{full: d,
			receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
				for {
					mu.Lock()
					n := open
					mu.Unlock()
					if n == 0 {
						break
					}
					select {
					case <-idle:
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				bags, err := d.Receive(ctx, max)
				mu.Lock()
				defer mu.Unlock()
				open += len(bags)
				return bags, err
			},
			settle: func(ctx context.Context, s []driver.Settlement) error {
				mu.Lock()
				open -= len(s)
				mu.Unlock()
				select {
				case idle <- struct{}{}:
				default:
				}
				return d.Settle(ctx, s)
			},
		}
	}}
}
