package qtest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// rig is what a case works with: its T, the features and the queue, and helpers that
// are the same on a broker in memory and on a service.
type rig struct {
	T
	Features
	queue  Queue
	label  string
	broken sabotage

	serial    atomic.Int64
	far       *conn
	producers sync.WaitGroup
}

// conn is one connection to the queue: a driver and what it is able to do.
type conn struct {
	io.Closer
	driver.Sender
	driver.Receiver
	driver.Extender
	limits driver.Limits
}

// Limits of the driver, with the defaults filled in.
func (c *conn) Limits() driver.Limits { return c.limits }

// open connects to the queue. The caller closes what it gets.
func (r *rig) open() *conn {
	r.Helper()
	d, err := r.queue.Connect()
	if err != nil {
		r.Fatalf("Connect: %v", err)
	}
	c := &conn{Closer: d}
	c.Sender, _ = d.(driver.Sender)
	c.Receiver, _ = d.(driver.Receiver)
	if runner, ok := d.(driver.Runner); ok && c.Receiver == nil {
		p := newPulled(d, runner)
		c.Closer, c.Receiver = p, p
	}
	c.Extender, _ = d.(driver.Extender)
	if l, ok := d.(driver.Limiter); ok {
		c.limits = l.Limits()
	}
	if c.limits.Entries == 0 {
		c.limits.Entries = 10
	}
	if c.limits.Size == nil {
		c.limits.Size = func(bag *driver.Bag) int { return len(bag.Body) }
	}
	return c
}

// connect opens a connection that is closed when the case ends.
func (r *rig) connect() *conn {
	r.Helper()
	c := r.open()
	r.Cleanup(func() {
		if err := c.Close(); err != nil {
			r.Errorf("Close: %v", err)
		}
	})
	return c
}

// bag makes a message unlike any other of the case. On an ordered broker it is of a
// group of its own, so that nothing stands in its way.
func (r *rig) bag(body string) driver.Bag {
	n := r.serial.Add(1)
	bag := driver.Bag{
		Category: "note",
		Source:   "qtest",
		Body:     []byte(body),
		Binary:   true, // it is no JSON
		ID:       fmt.Sprintf("id-%d", n),
	}
	if r.Ordered {
		bag.Group = fmt.Sprintf("group-%d", n)
	}
	return bag
}

// bags makes n messages with the bodies "<name> 0", "<name> 1", ….
func (r *rig) bags(name string, n int) []driver.Bag {
	bags := make([]driver.Bag, n)
	for i := range bags {
		bags[i] = r.bag(fmt.Sprintf("%s %d", name, i))
	}
	return bags
}

// grouped puts bags into one group.
func grouped(group string, bags []driver.Bag) []driver.Bag {
	for i := range bags {
		bags[i].Group = group
	}
	return bags
}

// send puts bags on the queue, in as few calls as the limits of the driver allow.
func (r *rig) send(c *conn, bags ...driver.Bag) {
	r.Helper()
	for batch := range batches(c.limits, bags) {
		if err := c.Send(r.Context(), batch); err != nil {
			r.Fatalf("Send of %d: %v", len(batch), err)
		}
	}
}

// batches cuts bags into batches that respect the limits: entries, bytes, and one
// entry of a group where order is kept.
func batches(limits driver.Limits, bags []driver.Bag) func(yield func([]driver.Bag) bool) {
	return func(yield func([]driver.Bag) bool) {
		start, bytes, groups := 0, 0, map[string]bool{}
		for i := range bags {
			size, group := limits.Size(&bags[i]), bags[i].Group
			full := i-start == limits.Entries ||
				limits.Bytes > 0 && bytes+size > limits.Bytes ||
				limits.Ordered && !limits.GroupBatches && groups[group]
			if full && i > start {
				if !yield(slices.Clone(bags[start:i])) {
					return
				}
				start, bytes, groups = i, 0, map[string]bool{}
			}
			bytes += size
			groups[group] = true
		}
		if start < len(bags) {
			yield(slices.Clone(bags[start:]))
		}
	}
}

// receive takes n messages from the queue and leaves them unsettled.
func (r *rig) receive(c *conn, n int) []driver.Bag {
	r.Helper()
	got, err := r.poll(c, n, r.Patience)
	if err != nil {
		r.Fatalf("Receive: %v", err)
	}
	if len(got) < n {
		r.Fatalf("received %d of %d messages within %s: %s", len(got), n, r.Patience, brief(bodies(got)))
	}
	return got
}

// quiet fails when a message arrives within d.
func (r *rig) quiet(c *conn, d time.Duration, why string) {
	r.Helper()
	got, _ := r.poll(c, 1, d)
	if len(got) > 0 {
		r.Fatalf("%s: received %q, attempt %d", why, got[0].Body, got[0].Attempt)
	}
}

// poll receives until it has n messages or d has passed.
func (r *rig) poll(c *conn, n int, d time.Duration) ([]driver.Bag, error) {
	return r.pollBy(c, n, n, d)
}

// pollBy asks for up to most messages until it has n.
func (r *rig) pollBy(c *conn, n, most int, d time.Duration) ([]driver.Bag, error) {
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	var got []driver.Bag
	for len(got) < n {
		bags, err := c.Receive(ctx, min(most-len(got), c.limits.Entries))
		got = append(got, bags...)
		switch {
		case ctx.Err() != nil:
			return got, nil
		case err != nil:
			return got, err
		case len(bags) == 0:
			pause(ctx, r.tick())
		}
	}
	return got, nil
}

// settle tells the broker how deliveries ended.
func (r *rig) settle(c *conn, settlements ...driver.Settlement) {
	r.Helper()
	for batch := range slices.Chunk(settlements, c.limits.Entries) {
		if err := c.Settle(r.Context(), batch); err != nil {
			r.Fatalf("Settle of %d, first %s: %v", len(batch), batch[0].Outcome, err)
		}
	}
}

// settled makes the settlements of bags that end alike.
func settled(outcome driver.Outcome, delay time.Duration, bags ...driver.Bag) []driver.Settlement {
	all := make([]driver.Settlement, len(bags))
	for i := range bags {
		all[i] = driver.Settlement{Bag: &bags[i], Outcome: outcome, Delay: delay}
		if outcome == driver.Nack {
			all[i].Err = errFailed
		}
	}
	return all
}

func acked(bags ...driver.Bag) []driver.Settlement { return settled(driver.Ack, 0, bags...) }

func nacked(delay time.Duration, bags ...driver.Bag) []driver.Settlement {
	return settled(driver.Nack, delay, bags...)
}

func released(bags ...driver.Bag) []driver.Settlement { return settled(driver.Release, 0, bags...) }

// inject puts bags on the queue from the far side of a listener.
func (r *rig) inject(bags ...driver.Bag) {
	r.Helper()
	if r.queue.Inject == nil {
		r.send(r.farSide(), bags...)
		return
	}
	if err := r.queue.Inject(r.Context(), bags); err != nil {
		r.Fatalf("Inject of %d: %v", len(bags), err)
	}
}

// arrivals takes n messages off the queue, on the far side of an emitter, in the
// order they arrive. It is patient as long as they keep arriving.
func (r *rig) arrivals(n int) []driver.Bag {
	r.Helper()
	got := r.arrived(n, r.Patience)
	if len(got) < n {
		r.Fatalf("%d of %d messages have arrived within %s: %s", len(got), n, r.Patience, brief(bodies(got)))
	}
	return got
}

// stragglers fails when a message arrives on the far side that was not expected.
func (r *rig) stragglers(why string) {
	r.Helper()
	if got := r.arrived(1, r.Slack+r.moment()); len(got) > 0 {
		r.Errorf("%s: %s has arrived", why, brief(bodies(got)))
	}
}

// arrived takes up to n messages that arrive no longer than d after one another.
func (r *rig) arrived(n int, d time.Duration) []driver.Bag {
	r.Helper()
	var got []driver.Bag
	if r.queue.Drain == nil {
		far, failures := r.farSide(), 0
		for len(got) < n {
			bags, err := r.pollBy(far, 1, n-len(got), d)
			if err != nil && !driver.IsPermanent(err) && failures < 2 {
				failures++ // a connection may break, and it is not the far side that is tested
				continue
			}
			if err != nil {
				r.Fatalf("Receive: %v", err)
			}
			if len(bags) == 0 {
				break
			}
			r.settle(far, acked(bags...)...)
			got = append(got, bags...)
		}
		return got
	}
	for len(got) < n {
		bags := r.drained(d)
		if len(bags) == 0 {
			break
		}
		got = append(got, bags...)
	}
	return got
}

// drained asks the far side of an emitter until something has arrived or d has passed.
func (r *rig) drained(d time.Duration) []driver.Bag {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	for ctx.Err() == nil {
		bags, err := r.queue.Drain(ctx)
		if len(bags) > 0 {
			return bags
		}
		if err != nil && ctx.Err() == nil {
			r.Fatalf("Drain: %v", err)
		}
		pause(ctx, r.tick())
	}
	return nil
}

// farSide is the connection that stands for the other program.
func (r *rig) farSide() *conn {
	r.Helper()
	if r.far == nil {
		r.far = r.connect()
	}
	return r.far
}

// eventually waits for a condition that must come to hold.
func (r *rig) eventually(what string, holds func() bool) {
	r.Helper()
	if !r.within(r.Patience, holds) {
		r.Fatalf("not within %s: %s", r.Patience, what)
	}
}

// within polls a condition for d. It asks often at first and seldom later.
func (r *rig) within(d time.Duration, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	for tick := time.Millisecond; ; tick = min(2*tick, 50*r.tick()) {
		if holds() {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		pause(ctx, tick)
	}
}

// tick is how often a condition is polled.
func (r *rig) tick() time.Duration {
	if r.Virtual {
		return 10 * time.Millisecond
	}
	return 2 * time.Millisecond
}

// moment is long enough for what would happen at once to have happened.
func (r *rig) moment() time.Duration { return 200 * time.Millisecond }

// early is by how much a timer of the broker may fire too soon: clocks of services
// are coarse.
func (r *rig) early() time.Duration {
	if r.Virtual {
		return 0
	}
	return 50 * time.Millisecond
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// bodies are what tells messages apart.
func bodies(bags []driver.Bag) []string {
	all := make([]string, len(bags))
	for i, bag := range bags {
		all[i] = string(bag.Body)
	}
	return all
}

// brief quotes texts for a failure.
func brief(texts []string) string {
	var all []string
	for i, text := range texts {
		if i == 20 {
			all = append(all, fmt.Sprintf("and %d more", len(texts)-i))
			break
		}
		if len(text) > 60 {
			text = fmt.Sprintf("%s… (%d bytes)", text[:60], len(text))
		}
		all = append(all, strconv.Quote(text))
	}
	return "[" + strings.Join(all, " ") + "]"
}

// same fails unless got has the bodies of want, in any order, each as often.
func (r *rig) same(what string, got, want []driver.Bag) {
	r.Helper()
	r.sameText(what, bodies(got), bodies(want))
}

func (r *rig) sameText(what string, got, want []string) {
	r.Helper()
	count := map[string]int{}
	for _, text := range want {
		count[text]++
	}
	for _, text := range got {
		count[text]--
	}
	var missing, extra []string
	for _, text := range slices.Sorted(maps.Keys(count)) {
		if n := count[text]; n > 0 {
			missing = append(missing, text)
		} else if n < 0 {
			extra = append(extra, text)
		}
	}
	if len(missing)+len(extra) > 0 {
		r.Fatalf("%s: missing %s, too often %s", what, brief(missing), brief(extra))
	}
}

// inOrder fails unless got has the bodies of want in their order.
func (r *rig) inOrder(what string, got, want []string) {
	r.Helper()
	if !slices.Equal(got, want) {
		r.Fatalf("%s: got %s, want %s", what, brief(got), brief(want))
	}
}
