package swarm_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// trace prints what happens to each message, by a name that travels with it.
func trace(say func(string, ...any)) swarm.Observer {
	type name struct{} // of a value in contexts
	return swarm.Observer{
		Accepted: func(_ context.Context, e swarm.Envelope) map[string]string {
			say("accepted %s, %d bytes", e.Category, e.Size)
			return map[string]string{"name": "ada"}
		},
		Request: func(_ context.Context, r swarm.Request) (context.Context, func(swarm.Answer)) {
			if r.Operation == swarm.OpReceive || r.Operation == swarm.OpExtend {
				return nil, nil
			}
			return nil, func(a swarm.Answer) { say("%s of %d, %d failed", r.Operation, len(r.Messages), len(a.Failed)) }
		},
		Retried:  func(e swarm.Envelope, err error) { say("attempt %d of %s: %v", e.Attempt, e.Category, err) },
		Ended:    func(_ swarm.Envelope, err error) { say("confirmed %v", err == nil) },
		Received: func(e swarm.Envelope) { say("received, delivery %d, of %s", e.Attempt, e.Attrs["name"]) },
		Handed: func(ctx context.Context, e swarm.Envelope) context.Context {
			return context.WithValue(ctx, name{}, e.Attrs["name"])
		},
		Settled: func(ctx context.Context, _ swarm.Envelope, s swarm.Settlement) {
			say("%s, context of %v", s.Outcome, ctx.Value(name{}))
		},
		Ignored: func(_ string, err error) { say("ignored: %v", err) },
		Closed:  func(err error) { say("closed: %v", err) },
	}
}

// An observer sees every message on its way, and can give it a name to travel under.
func ExampleObserver() {
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	q := swarm.Must(embedded.Endpoint().WithKernel(
		swarm.WithObserver(trace(say)),
		swarm.WithLogger(slog.New(slog.DiscardHandler)),
	).Build(""))
	deq, ack := listen.Typed[Order](q)
	go func() { _ = q.Run(context.Background()) }()

	_ = emit.NewTyped[Order](q).Enq(context.Background(), Order{ID: "A"})
	ack <- (<-deq).Fail(errors.New("not now"))
	msg := <-deq // it comes back
	ack <- msg
	ack <- msg
	_ = q.Close()
	// Unordered output:
	// accepted Order, 21 bytes
	// send of 1, 0 failed
	// confirmed true
	// received, delivery 1, of ada
	// failed, context of ada
	// settle of 1, 0 failed
	// received, delivery 2, of ada
	// acked, context of ada
	// ignored: swarm: already settled
	// settle of 1, 0 failed
	// closed: <nil>
}

// The ledger of a kernel adds up at every moment.
func ExampleStats() {
	q := swarm.Must(embedded.Endpoint().WithKernel(swarm.WithLogger(slog.New(slog.DiscardHandler))).Build(""))
	deq, ack := listen.Typed[Order](q)
	orders := emit.NewTyped[Order](q)
	_ = orders.Enq(context.Background(), Order{ID: "A"})
	_ = orders.Enq(context.Background(), Order{ID: "B"})
	go func() { _ = q.Run(context.Background()) }()

	msg := <-deq
	for q.Stats().Listen["Order"].Working == 0 {
		time.Sleep(time.Millisecond) // the consumer is faster than the accountant
	}
	s := q.Stats()
	e, l := s.Emit["Order"], s.Listen["Order"]
	fmt.Println("emitted", e.Accepted, "=", e.InFlight, "+", e.Confirmed)
	fmt.Println("received", l.Received, "=", l.Waiting, "+", l.Working, "+", l.Acked)
	fmt.Println("adds up", s.Check() == nil, "after", s.Requests[swarm.OpSend].Calls, "requests")

	ack <- msg
	ack <- <-deq
	_ = q.Close()
	fmt.Println("acknowledged", q.Stats().Listen["Order"].Acked)
	// Output:
	// emitted 2 = 0 + 2
	// received 2 = 1 + 1 + 0
	// adds up true after 2 requests
	// acknowledged 2
}
