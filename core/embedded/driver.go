package embedded

import (
	"context"
	"fmt"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// Conn is a connection to a queue: the driver of one kernel. Other kernels on the
// queue have their own, closing one does not end the others. It is safe for
// concurrent use.
type Conn struct {
	queue   *Queue
	entries int
	wait    time.Duration

	// Guarded by the mutex of the queue.
	closed bool
	idle   []*waiter // to use again
}

var (
	_ driver.Sender   = (*Conn)(nil)
	_ driver.Receiver = (*Conn)(nil)
	_ driver.Extender = (*Conn)(nil)
	_ driver.Limiter  = (*Conn)(nil)
)

// Open connects to the queue. [WithBatchSize] and [WithWait] are of this connection;
// other options must say what the queue was made with. The error names those that do
// not.
func (q *Queue) Open(opts ...Option) (*Conn, error) {
	s, err := q.settings.apply(q.name, opts)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.leave()
	q.conns++
	return &Conn{queue: q, entries: s.entries, wait: s.wait}, nil
}

// Limits of the connection.
func (c *Conn) Limits() driver.Limits {
	l := driver.Limits{Entries: c.entries, Ordered: c.queue.fifo, Wait: c.wait}
	if c.queue.maxSize > 0 {
		l.Check = c.check
	}
	return l
}

func (c *Conn) check(bag *driver.Bag) error {
	if n, most := len(bag.Body), c.queue.maxSize; most > 0 && n > most {
		return driver.Permanent(fmt.Errorf("embedded: body of %d bytes, queue %q takes %d", n, c.queue.name, most))
	}
	return nil
}

// Send puts messages on the queue. It does not block.
func (c *Conn) Send(ctx context.Context, bags []driver.Bag) error {
	now := time.Now()
	return c.each(ctx, &c.queue.stats.Sends, len(bags), func(i int) error {
		if err := c.check(&bags[i]); err != nil {
			return err
		}
		c.queue.put(&bags[i], now)
		return nil
	})
}

// Receive leases up to max messages. It blocks until there is one, until [WithWait]
// has passed (no messages, no error), or until ctx ends (its cause, no messages).
func (c *Conn) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	if max < 1 {
		return nil, driver.Permanent(fmt.Errorf("embedded: receive of %d messages", max))
	}
	q := c.queue
	q.mu.Lock()
	defer q.leave()
	q.stats.Receives++
	var deadline time.Time
	for {
		if err := c.refuse(ctx); err != nil {
			return nil, err
		}
		now := time.Now()
		q.expire(now)
		if bags := q.take(max, now); len(bags) > 0 {
			return bags, nil
		}
		if deadline.IsZero() {
			deadline = now.Add(c.wait)
		}
		if !now.Before(deadline) {
			return nil, nil
		}
		c.await(ctx, deadline)
	}
}

// Settle ends deliveries. It does not block. A settlement whose message somebody else
// has received since, or that was settled before, fails with [swarm.ErrLeaseLost].
func (c *Conn) Settle(ctx context.Context, s []driver.Settlement) error {
	return c.each(ctx, &c.queue.stats.Settles, len(s), func(i int) error {
		return c.queue.settle(&s[i])
	})
}

// Extend sets leases to end after d from now. It does not block. It fails as Settle
// does.
func (c *Conn) Extend(ctx context.Context, bags []*driver.Bag, d time.Duration) error {
	until := time.Now().Add(d)
	return c.each(ctx, &c.queue.stats.Extends, len(bags), func(i int) error {
		return c.queue.extend(bags[i], until)
	})
}

// each is a request: it does something for n entries. An entry that fails is not worth
// another try.
func (c *Conn) each(ctx context.Context, requests *int, n int, do func(i int) error) error {
	q := c.queue
	q.mu.Lock()
	defer q.leave()
	*requests++
	if err := c.refuse(ctx); err != nil {
		return err
	}
	var failed []driver.Failure
	for i := range n {
		if err := do(i); err != nil {
			failed = append(failed, driver.Failure{Index: i, Err: err, Permanent: true})
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &driver.BatchError{Failed: failed}
}

// Close ends the connection; its messages in flight come back when their leases end.
// If the queue is gone with its last connection, and messages with it, the error is a
// [*LostError]. Calls in progress and later ones fail with [swarm.ErrClosed]. Closing
// again does nothing.
func (c *Conn) Close() error {
	q := c.queue
	if q.home != nil {
		q.home.mu.Lock() // so that no Build finds the queue in between
		defer q.home.mu.Unlock()
	}
	defer q.enter().leave()
	if c.closed {
		return nil
	}
	c.closed = true
	for len(q.waiting) > 0 {
		q.call(q.waiting[0]) // those of other connections wait again
	}
	if q.conns--; q.conns > 0 {
		return nil
	}
	if q.alarm != nil {
		q.alarm.Stop()
		q.alarm, q.alarmAt = nil, time.Time{}
	}
	if q.home != nil {
		delete(q.home.queues, q.name)
	}
	if !q.transient || q.size+len(q.dead) == 0 {
		return nil
	}
	return &LostError{Queue: q.name, Messages: q.size, DeadLetters: len(q.dead)}
}

// refuse says why a call cannot be served at all.
func (c *Conn) refuse(ctx context.Context) error {
	if c.closed {
		return driver.Permanent(swarm.ErrClosed)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// LostError says what was lost in memory when the last connection of a queue was
// closed that nobody can find any more. A kernel has it in its [swarm.DrainError].
type LostError struct {
	Queue       string
	Messages    int // that were not acknowledged
	DeadLetters int // that were given up before
}

// Error names the queue and the numbers.
func (e *LostError) Error() string {
	return fmt.Sprintf("embedded: queue %q: lost %d messages and %d dead letters", e.Queue, e.Messages, e.DeadLetters)
}
