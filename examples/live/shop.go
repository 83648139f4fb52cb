package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/core/listen"
)

// What the shop sends.
type (
	Order   struct{ ID int }
	Payment struct{ Order int }
	Mail    struct{ Order int }
	Scan    struct {
		Page  int
		Image []byte
	}
)

// largest scan, in bytes, that the queue takes.
const largest = 32 << 10

// shop is two kernels, each on a queue of its own.
type shop struct {
	counter, mailroom *kernel.Endpoint
	queues            []*embedded.Queue
	began             time.Time
	work              sync.WaitGroup
}

func newShop() (*shop, error) {
	s := &shop{began: time.Now()}
	var err error
	if s.counter, err = s.endpoint("counter", swarm.WithEmitWindow(4), swarm.WithPollerPool(3)); err != nil {
		return nil, err
	}
	if s.mailroom, err = s.endpoint("mailroom", swarm.WithEmitWindow(2)); err != nil {
		return nil, errors.Join(err, s.counter.Close())
	}
	return s, nil
}

// endpoint is a kernel on a queue behind a network.
func (s *shop) endpoint(name string, opts ...swarm.Option) (*kernel.Endpoint, error) {
	queue, err := embedded.NewQueue(name, embedded.WithMaxSize(largest), embedded.WithMaxReceives(4))
	if err != nil {
		return nil, err
	}
	conn, err := queue.Open()
	if err != nil {
		return nil, err
	}
	s.queues = append(s.queues, queue)
	opts = append(opts,
		swarm.WithSource("live"),
		swarm.WithRedelivery(func(attempt int) time.Duration { return time.Duration(attempt) * time.Second }),
		swarm.WithLogger(slog.New(slog.DiscardHandler)), // what fails here is meant to
	)
	return kernel.NewEndpoint(network{conn}, opts...)
}

func (s *shop) kernels() map[string]ledger.Source {
	return map[string]ledger.Source{"counter": s.counter, "mailroom": s.mailroom}
}

func (s *shop) close() error { return errors.Join(s.counter.Close(), s.mailroom.Close()) }

// run until ctx ends, and everything that began has ended.
func (s *shop) run(ctx context.Context) error {
	orders, lost := emit.Typed[Order](s.counter)
	scans, large := emit.Typed[Scan](s.counter)
	payments, mails := emit.NewTyped[Payment](s.counter), emit.NewTyped[Mail](s.mailroom)

	produce(s, orders, s.tide, func(n int) Order { return Order{n} })
	produce(s, scans, func() time.Duration { return 200 * time.Millisecond }, scan)
	s.work.Go(func() { collect(lost, func() {}) })
	s.work.Go(func() { collect(large, s.coffee) })

	// An order asks for a payment, each sixth payment for mail. They are acknowledged when
	// the broker has that.
	consume(s, s.counter, 4, func(ctx context.Context, o Order) error {
		spend(20, 60)
		if s.rarely(12*time.Second, 9*time.Second, 12*time.Second) {
			spend(300, 600) // the database is slow
		}
		return payments.Enq(ctx, Payment{o.ID})
	})
	consume(s, s.counter, 3, func(ctx context.Context, p Payment) error {
		spend(10, 80)
		if rand.N(20) == 0 {
			return errors.New("the bank says no")
		}
		if p.Order%6 > 0 {
			return nil
		}
		return mails.Enq(ctx, Mail(p))
	})
	consume(s, s.counter, 1, func(context.Context, Scan) error { spend(100, 200); return nil })
	consume(s, s.mailroom, 1, func(context.Context, Mail) error {
		spend(80, 150)
		if rand.N(5) == 0 {
			return errors.New("the mailbox is full")
		}
		return nil
	})

	err := swarm.RunAll(ctx, s.counter, s.mailroom) // the mail last: the shop sends to it
	s.work.Wait()
	return err
}

// tide is the time between two orders: they come in waves.
func (s *shop) tide() time.Duration {
	wave := math.Sin(time.Since(s.began).Seconds() / 6)
	return time.Duration(float64(time.Second) / (40 + 20*wave))
}

// rarely is true in each period, between two times of it.
func (s *shop) rarely(period, from, to time.Duration) bool {
	at := time.Since(s.began) % period
	return at >= from && at < to
}

// spend some milliseconds.
func spend(least, most int) { time.Sleep(time.Duration(least+rand.N(most-least)) * time.Millisecond) }

// scan number n: each fourth is too large for the queue.
func scan(n int) Scan {
	size := 1000 + rand.N(9000)
	if n%4 == 0 {
		size = largest
	}
	return Scan{Page: n, Image: make([]byte, size)}
}

// coffee is a break in each half of a minute.
func (s *shop) coffee() {
	for s.rarely(30*time.Second, 4*time.Second, 14*time.Second) && !ended(s.counter.Done()) {
		wait(s.counter.Done(), 100*time.Millisecond)
	}
}

// collect what could not be sent. While it pauses the channel is blocked: the next value that
// fails waits for it, and so does whoever sends.
func collect[T any](dlq <-chan T, pause func()) {
	for range dlq {
		pause()
	}
}

// produce values until the kernel refuses them.
func produce[T any](s *shop, enq chan<- T, every func() time.Duration, value func(n int) T) {
	s.work.Go(func() {
		defer close(enq)
		for n := 1; ; n++ {
			select {
			case enq <- value(n):
				wait(s.counter.Done(), every())
			case <-s.counter.Done():
				return
			}
		}
	})
}

// consume messages by n goroutines.
func consume[T any](s *shop, q *kernel.Endpoint, n int, do func(context.Context, T) error) {
	deq, ack := listen.Typed[T](q)
	for range n {
		s.work.Go(func() {
			for msg := range deq {
				if err := do(msg.Context(), msg.Object); err != nil {
					ack <- msg.Fail(err)
					continue
				}
				ack <- msg
			}
		})
	}
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// wait for some time, or for the end.
func wait(done <-chan struct{}, d time.Duration) {
	select {
	case <-done:
	case <-time.After(d):
	}
}
