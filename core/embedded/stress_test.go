package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

// ledger knows how each message ended.
type ledger struct {
	mu    sync.Mutex
	acked map[string]int // by id
	last  map[string]int // latest acknowledged of a group
	order []string       // violations of it
}

// latest acknowledged of the group of a bag, and the number of the bag itself.
func (l *ledger) latest(bag *driver.Bag) (group string, n, latest int) {
	if _, err := fmt.Sscan(bag.ID, &group, &n); err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return group, n, l.last[group]
}

// ack notes an acknowledgement. Before is what was the latest of the group when it
// began.
func (l *ledger) ack(bag *driver.Bag, before int) {
	group, n, _ := l.latest(bag)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[bag.ID]++
	if n <= before {
		l.order = append(l.order, fmt.Sprintf("%s: %d after %d", group, n, before))
	}
	l.last[group] = max(n, l.last[group])
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// consume settles a batch at random: in the order of each group, and no further than
// its first failure. It counts what the broker has confirmed.
func (l *ledger) consume(ctx context.Context, c *embedded.Conn, got []driver.Bag) error {
	failed := map[string]bool{}
	for i := range got {
		bag := &got[i]
		s := driver.Settlement{Bag: bag, Outcome: driver.Ack}
		switch dice := rand.IntN(20); {
		case failed[bag.Group]:
			s.Outcome = driver.Release
		case dice == 0:
			s.Outcome = driver.Nack
		case dice == 1:
			s.Outcome, s.Delay = driver.Nack, time.Duration(rand.IntN(100))*time.Millisecond
		case dice == 2:
			s.Outcome = driver.Release
		case dice == 3:
			failed[bag.Group] = bag.Group != ""
			continue // forgotten
		case dice == 4:
			pass(time.Duration(rand.IntN(400)) * time.Millisecond) // late, sometimes too late
		case dice == 5:
			err := c.Extend(ctx, []*driver.Bag{bag}, time.Duration(rand.IntN(200))*time.Millisecond)
			if err != nil && permanent(err) == nil {
				return err
			}
		}
		_, _, before := l.latest(bag)
		err := permanent(c.Settle(ctx, []driver.Settlement{s}))
		switch {
		case err == nil && s.Outcome == driver.Ack:
			l.ack(bag, before)
		case err == nil || errors.As(err, new(*driver.BatchError)):
			failed[bag.Group] = bag.Group != ""
		default:
			return err
		}
		if again := c.Settle(ctx, []driver.Settlement{s}); again == nil {
			return fmt.Errorf("%v of %s was accepted twice", s.Outcome, bag.ID)
		}
	}
	return nil
}

// permanent is err, once it is clear that it names the one entry for good.
func permanent(err error) error {
	if batch, ok := errors.AsType[*driver.BatchError](err); ok && (len(batch.Failed) != 1 || !batch.Failed[0].Permanent) {
		return fmt.Errorf("%w: not permanent", err)
	}
	return err
}

func TestStress(t *testing.T) {
	const senders, receivers, each = 8, 8, 250
	for name, opts := range map[string][]embedded.Option{
		"plain":                  nil,
		"FIFO":                   {embedded.WithFIFO()},
		"plain and dead letters": {embedded.WithMaxReceives(2)},
		"FIFO and dead letters":  {embedded.WithFIFO(), embedded.WithMaxReceives(2)},
		"FIFO and delay":         {embedded.WithFIFO(), embedded.WithDelay(20 * time.Millisecond)},
	} {
		bubble(t, "EB1 EB2 every message is acknowledged once or a dead letter: "+name, func(t *testing.T) {
			q := queue(t, append(opts, embedded.WithVisibility(300*time.Millisecond))...)
			book := &ledger{acked: map[string]int{}, last: map[string]int{}}
			ctx, cancel := context.WithCancel(t.Context())
			var working sync.WaitGroup
			for s := range senders {
				working.Go(func() {
					c := open(t, q)
					for n := 1; n <= each; n += 2 {
						group := fmt.Sprint("g", s)
						if err := c.Send(ctx, []driver.Bag{
							{ID: fmt.Sprint(group, " ", n), Group: group, Body: []byte("x")},
							{ID: fmt.Sprint(group, " ", n+1), Group: group, Body: []byte("x")},
						}); err != nil {
							t.Error(err)
						}
						if rand.IntN(20) == 0 {
							pass(time.Duration(rand.IntN(50)) * time.Millisecond)
						}
					}
				})
			}
			for range receivers {
				working.Go(func() {
					c := open(t, q)
					for {
						got, err := c.Receive(ctx, 1+rand.IntN(10))
						if err != nil {
							if ctx.Err() == nil {
								t.Error(err)
							}
							return
						}
						if err := book.consume(t.Context(), c, got); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for range 1000 {
				if book.count()+len(q.DeadLetters()) >= senders*each {
					break
				}
				pass(time.Second)
			}
			cancel()
			working.Wait()

			ended := map[string]bool{}
			for id, n := range book.acked {
				if ended[id] = true; n != 1 {
					t.Errorf("%s was acknowledged %d times", id, n)
				}
			}
			for _, bag := range q.DeadLetters() {
				if ended[bag.ID] {
					t.Errorf("%s ended twice", bag.ID)
				}
				ended[bag.ID] = true
			}
			if len(ended) != senders*each {
				t.Errorf("%d messages ended, want %d", len(ended), senders*each)
			}
			wantCount(t, q, 0, 0)
			if open(t, q).Limits().Ordered && len(book.order) > 0 {
				t.Errorf("out of order: %v", book.order)
			}
		})
	}
}
