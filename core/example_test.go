package swarm_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// Order is what the examples send.
type Order struct {
	ID     string `json:"id"`
	Amount int    `json:"amount"`
}

// Await runs several kernels and drains them in order: the listener first, then what
// its consumers send to.
func ExampleAwait() {
	orders := swarm.Must(embedded.NewQueue("orders"))
	bills := swarm.Must(embedded.NewQueue("bills"))
	in := swarm.Must(embedded.Endpoint().WithQueue(orders).Build(""))
	out := swarm.Must(embedded.Emitter().WithQueue(bills).Build(""))

	deq, ack := listen.Typed[Order](in)
	enq := swarm.LogDeadLetters(emit.Typed[Order](out, emit.Category("Bill")))
	go func() {
		for msg := range deq {
			enq <- msg.Object
			ack <- msg
		}
		close(enq)
	}()

	_ = emit.NewTyped[Order](in).Enq(context.Background(), Order{ID: "A", Amount: 7})
	go func() {
		for bills.Len() == 0 {
			time.Sleep(time.Millisecond)
		}
		_ = in.Close() // as a signal does; when one kernel has ended, all are drained
	}()
	fmt.Println("lost:", swarm.Await(in, out))
	fmt.Println("orders", orders.Len(), "bills", bills.Len())
	// Output:
	// lost: <nil>
	// orders 0 bills 1
}

// RunAll is Await for programs with a context of their own.
func ExampleRunAll() {
	q := swarm.Must(embedded.Endpoint().Build(""))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	fmt.Println(swarm.RunAll(ctx, q))
	// Output: <nil>
}

// Options of the kernel are checked by Build: what is wrong is named, all of it.
func ExampleNewConfig() {
	_, err := embedded.Endpoint().
		WithKernel(
			swarm.WithPollerPool(-1),
			swarm.WithTimeToFlight(0),
		).
		Build("")
	fmt.Println(err)
	// Output:
	// swarm: WithPollerPool(-1): must be from 1 to 10000
	// swarm: WithTimeToFlight(0s): must not be zero or negative
}

// A consumer that fails says so, and the message comes back: at once the first time,
// then later, or when RetryAfter says.
func ExampleRetryAfter() {
	q := swarm.Must(embedded.Endpoint().Build(""))
	deq, ack := listen.Typed[Order](q)
	go q.Run(context.Background())

	_ = emit.NewTyped[Order](q).Enq(context.Background(), Order{ID: "A"})
	for msg := range deq {
		switch msg.Attempt {
		case 1:
			ack <- msg.Fail(errors.New("database is down")) // fail fast
		case 2:
			ack <- msg.Fail(swarm.RetryAfter(10*time.Millisecond, errors.New("still down")))
		default:
			fmt.Println("processed at attempt", msg.Attempt)
			ack <- msg
			go q.Close()
		}
	}
	// Output: processed at attempt 3
}

// At most once: fast, buffered, and nobody has to acknowledge.
func ExampleWithPolicyAtMostOnce() {
	q := swarm.Must(embedded.Endpoint().WithKernel(swarm.WithPolicyAtMostOnce(100)).Build(""))
	enq, _ := emit.Typed[Order](q)
	deq, _ := listen.Typed[Order](q)
	go q.Run(context.Background())

	for i := range 3 {
		enq <- Order{Amount: i}
	}
	close(enq)
	for range 3 {
		fmt.Println((<-deq).Object.Amount)
	}
	_ = q.Close()
	// Output:
	// 0
	// 1
	// 2
}

// StdErr has the errors that belong to no message the program holds.
func ExampleWithStdErr() {
	stderr := make(chan error, 10)
	q := swarm.Must(embedded.Endpoint().
		WithKernel(swarm.WithStdErr(stderr), swarm.WithLogger(slog.New(slog.DiscardHandler))).
		Build(""))
	listen.Typed[Order](q)
	go q.Run(context.Background())

	_ = emit.NewTyped[string](q).Enq(context.Background(), "nobody listens to strings")
	err := <-stderr
	if e, ok := errors.AsType[*swarm.ListenError](err); ok {
		fmt.Println(e.Op, e.Category, errors.Is(err, swarm.ErrUnknownCategory))
	}
	_ = q.Close()
	// Output: route string true
}

// LogDeadLetters takes care of dlq for programs that have nothing better to do with
// what could not be sent.
func ExampleLogDeadLetters() {
	q := swarm.Must(embedded.Emitter().Build("log-dead-letters"))
	enq := swarm.LogDeadLetters(emit.Typed[Order](q))
	enq <- Order{ID: "A"}
	close(enq)

	_, lost := errors.AsType[*embedded.LostError](q.Close())
	fmt.Println("the queue in memory is gone with what nobody has received:", lost)
	// Output: the queue in memory is gone with what nobody has received: true
}

// A type has the category of its name, on the wire too.
func ExampleTypeOf() {
	category, err := swarm.TypeOf[Order]()
	fmt.Println(category, err)
	_, err = swarm.TypeOf[[]Order]()
	fmt.Println(err)
	// Output:
	// Order <nil>
	// swarm: type []swarm_test.Order has no name, it needs an explicit category
}

// The unit test of a program: its consumer, the broker in memory, virtual time.
func TestUnitTestOfAProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue, err := embedded.NewQueue("orders", embedded.WithMaxReceives(3))
		if err != nil {
			t.Fatal(err)
		}
		q, err := embedded.Endpoint().WithQueue(queue).Build("")
		if err != nil {
			t.Fatal(err)
		}
		deq, ack := listen.Typed[Order](q)
		go q.Run(t.Context())

		var sum int
		var consumer sync.WaitGroup
		consumer.Go(func() { // the program under test
			for msg := range deq {
				if msg.Object.Amount < 0 {
					ack <- msg.Fail(errors.New("negative"))
					continue
				}
				sum += msg.Object.Amount
				ack <- msg
			}
		})

		orders := emit.NewTyped[Order](q)
		for _, amount := range []int{1, -1, 2} {
			if err := orders.Enq(t.Context(), Order{Amount: amount}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Hour) // virtual: the redeliveries of the bad one take no time
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		consumer.Wait()
		if sum != 3 || queue.Len() != 0 || len(queue.DeadLetters()) != 1 {
			t.Errorf("sum %d, left %d, dead %d", sum, queue.Len(), len(queue.DeadLetters()))
		}
	})
}
