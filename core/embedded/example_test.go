package embedded_test

import (
	"context"
	"fmt"
	"sync"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

type Note struct{ Text string }

func Example() {
	q := swarm.Must(embedded.Endpoint().Build(""))
	enq := swarm.LogDeadLetters(emit.Typed[Note](q))
	deq, ack := listen.Typed[Note](q)

	var consumer sync.WaitGroup
	consumer.Go(func() {
		for msg := range deq {
			fmt.Println(msg.Object.Text)
			ack <- msg
			if msg.Object.Text == "bye" {
				go q.Close()
			}
		}
	})

	go func() {
		enq <- Note{"hello"}
		enq <- Note{"bye"}
		close(enq)
	}()
	fmt.Println("lost:", q.Run(context.Background())) // q.Await() in a program
	consumer.Wait()
	// Output:
	// hello
	// bye
	// lost: <nil>
}

// A test that holds the queue can look into it.
func ExampleNewQueue() {
	queue := swarm.Must(embedded.NewQueue("orders", embedded.WithMaxReceives(1)))
	q := swarm.Must(embedded.Endpoint().WithQueue(queue).Build(""))
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())

	notes := emit.NewTyped[Note](q)
	_ = notes.Enq(context.Background(), Note{"good"})
	_ = notes.Enq(context.Background(), Note{"bad"})
	for range 2 {
		msg := <-deq
		if msg.Object.Text == "bad" {
			msg = msg.Fail(fmt.Errorf("no, thanks"))
		}
		ack <- msg
	}
	fmt.Println("lost:", q.Close())
	for _, bag := range queue.DeadLetters() {
		fmt.Printf("%s after %d attempt\n", bag.Body, bag.Attempt)
	}
	// Output:
	// lost: <nil>
	// {"Text":"bad"} after 1 attempt
}
