package otel_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"
)

type half struct {
	gate chan struct{}
	n    int
}

func (h *half) Close() error          { return nil }
func (h *half) Limits() driver.Limits { return driver.Limits{Entries: 10} }
func (h *half) Send(_ context.Context, bags []driver.Bag) error {
	if h.n++; h.n == 1 {
		<-h.gate
		return nil
	}
	return &driver.BatchError{Failed: []driver.Failure{{Index: len(bags) - 1, Err: errors.New("no"), Permanent: true}}}
}

func TestSentMessagesCountsThoseThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		h := &half{gate: make(chan struct{})}
		q, err := kernel.NewEmitter(h, otel.WithTelemetry(b.options()...), swarm.WithLinger(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		out := emit.NewTyped[Order](q)
		for i := range 5 {
			go out.Enq(context.Background(), Order{fmt.Sprint(i)})
			synctest.Wait()
		}
		close(h.gate)
		synctest.Wait()
		q.Close()
		failed := int64(0)
		for _, p := range b.metrics(t)["messaging.client.sent.messages"].(metricdata.Sum[int64]).DataPoints {
			if _, is := p.Attributes.Value("error.type"); is {
				failed += p.Value
			}
		}
		if failed != 1 {
			t.Errorf("%d with error.type, 1 has failed: %+v", failed, q.Stats().Requests)
		}
	})
}

type coded struct{ code string }

func (c *coded) Error() string     { return "x" }
func (c *coded) ErrorCode() string { return c.code }

func TestErrorsOfConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		queue := queue(t)
		q := build(t, b, queue)
		deq, ack := listen.Typed[Order](q)
		go q.Run(context.Background())
		n := 0
		for range 100 {
			emit.NewTyped[Order](q).Enq(t.Context(), Order{"A"})
			msg := <-deq
			ack <- msg.Fail(&coded{fmt.Sprint("card 4111-", n)})
			n++
			synctest.Wait()
		}
		if got := len(b.metrics(t)["messaging.process.duration"].(metricdata.Histogram[float64]).DataPoints); got > 5 {
			t.Errorf("%d series of messaging.process.duration", got)
		}
		q.Close()
	})
}

func TestNilErrorOfAConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		q := build(t, b, queue(t), otel.WithErrorText())
		deq, ack := listen.Typed[Order](q)
		go q.Run(context.Background())
		emit.NewTyped[Order](q).Enq(t.Context(), Order{"A"})
		msg := <-deq
		ack <- msg.Fail((*coded)(nil))
		synctest.Wait()
		if len(b.ended("process Order")) != 1 {
			t.Error("the span of a message that is settled has not ended")
		}
		q.Close()
	})
}

type nest struct{ serve chan driver.Serve }

func (n *nest) Close() error { return nil }
func (n *nest) Run(ctx context.Context, serve driver.Serve) error {
	n.serve <- serve
	<-ctx.Done()
	return nil
}

func TestAnObserverOfTwoKernelsEndsTheRightSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		o := swarm.WithObserver(otel.Observer(b.options()...))
		outer, inner := &nest{make(chan driver.Serve, 1)}, &nest{make(chan driver.Serve, 1)}
		one, _ := kernel.NewListener(outer, o)
		two, _ := kernel.NewListener(inner, o)
		deq, ack := listen.Typed[Order](one)
		go one.Run(context.Background())
		go two.Run(context.Background())
		s1, s2 := <-outer.serve, <-inner.serve
		go s1(context.Background(), []driver.Bag{{Category: "Order", ID: "1", Body: []byte("{}")}})
		msg := <-deq
		s2(msg.Context(), []driver.Bag{{Category: "nobody", ID: "2", Body: []byte("{}")}}) // what A received is passed on in process
		if n := len(b.ended("process Order")); n != 0 {
			t.Errorf("the span of the first message has ended, with %v: it is still worked on", attributes(b.ended("process Order")[0])["swarm.outcome"])
		}
		ack <- msg
		synctest.Wait()
		if s := b.one(t, "process Order"); attributes(s)["swarm.outcome"] != "acked" {
			t.Errorf("%v", attributes(s))
		}
		if n := counts(b.metrics(t)["messaging.process.duration"]); n != 1 {
			t.Errorf("%d durations of a consumer", n)
		}
		one.Close()
		two.Close()
	})
}

func TestCauseWithTelemetry(t *testing.T) {
	bad := 0
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend()
			f := &nest{make(chan driver.Serve, 1)}
			q, _ := kernel.NewListener(f, otel.WithTelemetry(b.options()...))
			deq, ack := listen.Typed[Order](q)
			go q.Run(context.Background())
			s := <-f.serve
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				var bags []driver.Bag
				for range 50 {
					bags = append(bags, driver.Bag{Category: "Order", ID: "1", Body: []byte("{}")})
				}
				s(ctx, bags)
			}()
			var hands []swarm.Msg[Order]
			for range 50 {
				msg := <-deq
				msg.Context().Done()
				hands = append(hands, msg)
			}
			time.Sleep(time.Minute)
			for _, msg := range hands {
				if context.Cause(msg.Context()) != swarm.ErrTimeToFlight {
					bad++
				}
				ack <- msg
			}
			q.Close()
		})
	}
	if bad > 0 {
		t.Errorf("%d of 50 have another cause", bad)
	}
}
