package snippets

import (
	"context"
	"errors"
	"log"
	"time"

	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

// Order is what a shop sends.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
}

// Meta of our events: swarm's, and a field of our own.
type Meta struct {
	swarm.Meta
	About string `json:"about,omitempty"`
}

// User is the data of an event.
type User struct {
	Name string `json:"name"`
}

// UserEvent is the event.
type UserEvent = swarm.Event[Meta, User]

func guideEmit(q *kernel.Emitter) {
	enq, dlq := emit.Typed[Order](q)
	go func() {
		for order := range dlq {
			log.Println("not sent:", order.ID)
		}
	}()
	enq <- Order{ID: "A", Customer: "ada"}
	close(enq)
}

func guideLog(q *kernel.Emitter) {
	orders := swarm.LogDeadLetters(emit.Typed[Order](q))
	orders <- Order{ID: "A", Customer: "ada"}
	close(orders)
}

func guideListen(q *kernel.Listener, process func(context.Context, Order) error) {
	deq, ack := listen.Typed[Order](q)
	for msg := range deq {
		if err := process(msg.Context(), msg.Object); err != nil {
			ack <- msg.Fail(err)
			continue
		}
		ack <- msg
	}
}

func guideConfigure() (*kernel.Endpoint, error) {
	q, err := sqs.Endpoint().
		WithBatchSize(5).
		WithKernel(
			swarm.WithSource("name-of-my-component"),
			swarm.WithRetryConstant(10*time.Millisecond, 3),
			swarm.WithPollerPool(4),
		).
		Build("name-of-the-queue")
	return q, err
}

func guideOnce(q *kernel.Emitter) error {
	orders := emit.NewTyped[Order](q)
	err := orders.Enq(context.Background(), Order{ID: "A"})
	return err
}

func guidePolicies() []swarm.Option {
	return []swarm.Option{
		swarm.WithEmitWindow(100),
		swarm.WithPolicyAtMostOnce(1000),
	}
}

func guideOrder(q *kernel.Emitter) {
	orders := swarm.LogDeadLetters(emit.Typed[Order](q,
		emit.OrderBy(func(o Order) string { return o.Customer }),
		emit.DedupBy(func(o Order) string { return o.ID }),
	))
	close(orders)
}

func guideBytes(q *kernel.Endpoint) {
	enq, dlq := emit.Bytes(q, codec.Bytes("Image"))
	deq, ack := listen.Bytes(q, codec.Bytes("Image"))
	_, _, _, _ = enq, dlq, deq, ack
}

func guideEvents(q *kernel.Endpoint) {
	enq, dlq := emit.Event[UserEvent](q)
	deq, ack := listen.Event[UserEvent](q)
	enq <- UserEvent{
		Meta: &Meta{Meta: swarm.Meta{Participant: "ada"}, About: "sign-up"},
		Data: &User{Name: "ada"},
	}
	_, _, _ = dlq, deq, ack
}

func guideErrors(build func(...swarm.Option) error) error {
	errs := make(chan error)
	go func() {
		for err := range errs {
			if e, ok := errors.AsType[*swarm.EmitError](err); ok {
				log.Println(e.Category, e.ID, "after", e.Attempts, "attempts:", e.Err)
			}
		}
	}()
	return build(swarm.WithStdErr(errs))
}

func guideFailFast(msg swarm.Msg[Order], ack chan<- swarm.Msg[Order], err error) {
	ack <- msg.Fail(err)
	ack <- msg.Fail(swarm.RetryAfter(time.Minute, err))
}

func guideShutdown(in *kernel.Listener, out *kernel.Emitter) {
	if err := swarm.Await(in, out); err != nil {
		log.Println(err)
	}
}

var _ = []any{guideEmit, guideLog, guideListen, guideConfigure, guideOnce, guidePolicies, guideOrder, guideBytes,
	guideEvents, guideErrors, guideFailFast, guideShutdown}
