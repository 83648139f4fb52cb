package kernel

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// void takes everything.
type void struct{}

func (void) Send(context.Context, []driver.Bag) error { return nil }
func (void) Close() error                             { return nil }

// What a message pays for observers that are not there, and for its lines in the ledger,
// beside half a round trip: a synchronous send to a broker that does nothing.
func BenchmarkBudgetUnobserved(b *testing.B) {
	q, err := NewEmitter(void{}, swarm.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	nanoseconds := func(f func()) float64 { // of one call, in the best of some rounds
		const n = 200_000
		best := time.Duration(math.MaxInt64)
		for range 7 {
			began := time.Now()
			for range n {
				f()
			}
			best = min(best, time.Since(began))
		}
		return float64(best.Nanoseconds()) / n
	}
	send := nanoseconds(func() {
		bag := q.NewBag("Note")
		if err := q.Enqueue(ctx, &bag); err != nil {
			b.Fatal(err)
		}
	})

	// The places that look for observers: on the way out, and on the way in.
	o := q.Outlet("Note", 1, func() int { return 0 })
	entry := o.NewEntry(0)
	d := &Delivery{}
	hooks := func() {
		if o.Carries(false) || d.trace != nil || q.observers != nil {
			b.Fatal("observed")
		}
		o.conclude(entry, nil)
		for range 2 { // the call that sends, and the one that settles
			if q.observers != nil {
				b.Fatal("observed")
			}
		}
	}
	book, in, bag, requests := o.book, &listened{}, &driver.Bag{}, &swarm.RequestStats{}
	ledger := func() {
		book.accepted(&o.open)
		book.confirmed(&o.open)
		in.received(bag)
		in.ended(swarm.OutcomeAcked)
		callBegun(requests, 1)
		callEnded(requests, 1, 0, nil)
	}
	b.ReportMetric(nanoseconds(hooks)/send, "x-hooks")
	b.ReportMetric(0.02, "max-x-hooks") // 1 % of the whole way
	b.ReportMetric(nanoseconds(ledger)/send, "x-ledger")
	b.ReportMetric(0.04, "max-x-ledger")
	b.ReportMetric(testing.AllocsPerRun(1000, func() { hooks(); ledger() }), "allocs")
	b.ReportMetric(0, "max-allocs")
	b.ReportMetric(send, "ns-send")
	o.Flushed() // as the lane would that this benchmark has pretended to be
	go func() {
		<-o.Severed()
		o.Ended(0)
	}()
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}
