// Fanout sends each order and each refund once, to a topic of AWS SNS, and two services
// have them: the accounting has all, the warehouse only orders. It prints a ledger of each
// service. Topic and queues are made in the beginning, and deleted in the end.
//
//	make localstack                      # in another terminal; it prints the next line
//	export LOCALSTACK_ENDPOINT=http://…
//	go run ./examples/fanout
//
// Without LOCALSTACK_ENDPOINT it talks to AWS itself, by your credentials. Press Ctrl-C in
// the middle: it drains, and the ledgers still add up.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/fogfish/swarm/broker/sns"
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/examples/internal/aws"
)

// Order is for both services.
type Order struct {
	ID    int     `json:"id"`
	Total float64 `json:"total"`
}

// Refund is for the accounting alone.
type Refund struct {
	Order int `json:"order"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}

func run() error {
	// A topic and a queue for each service.
	ctx := context.Background()
	cfg, err := aws.Config(ctx)
	if err != nil {
		return err
	}
	topic, err := aws.NewTopic(ctx, cfg, aws.Name("shop"))
	if err != nil {
		return err
	}
	defer topic.Delete(ctx)
	forAccounting, err := aws.NewQueue(ctx, cfg, aws.Name("accounting"))
	if err != nil {
		return err
	}
	defer forAccounting.Delete(ctx)
	forWarehouse, err := aws.NewQueue(ctx, cfg, aws.Name("warehouse"))
	if err != nil {
		return err
	}
	defer forWarehouse.Delete(ctx)

	// The subscription decides what a queue gets: by Category, here. With raw delivery a
	// message comes as it was sent, else in the envelope of SNS.
	if err := topic.Subscribe(ctx, forAccounting, nil); err != nil {
		return err
	}
	if err := topic.Subscribe(ctx, forWarehouse, map[string]string{
		"RawMessageDelivery": "true",
		"FilterPolicy":       `{"Category": ["Order"]}`,
	}); err != nil {
		return err
	}

	// The shop and the two services; in your system these are three programs.
	shop, err := sns.Emitter().WithConfig(cfg).WithKernel(swarm.WithSource("shop"), swarm.WithEmitWindow(10)).Build(topic.ARN)
	if err != nil {
		return err
	}
	accounting, err := sqs.Listener().WithConfig(cfg).WithUnwrap(sqs.SNS).Build(forAccounting.Name)
	if err != nil {
		return err
	}
	warehouse, err := sqs.Listener().WithConfig(cfg).Build(forWarehouse.Name)
	if err != nil {
		return err
	}

	// The accounting books orders and refunds.
	books, shelves := aws.NewLedger(forAccounting), aws.NewLedger(forWarehouse)
	var work sync.WaitGroup
	sales, saleAck := listen.Typed[Order](accounting)
	work.Go(func() {
		for msg := range sales {
			fmt.Printf("accounting  order %d, %.2f\n", msg.Object.ID, msg.Object.Total)
			books.Processed(msg.ID)
			saleAck <- msg
		}
	})
	refunds, refundAck := listen.Typed[Refund](accounting)
	work.Go(func() {
		for msg := range refunds {
			fmt.Printf("accounting  refund of order %d\n", msg.Object.Order)
			books.Processed(msg.ID)
			refundAck <- msg
		}
	})

	// The warehouse packs orders. What one service refuses comes again to it alone.
	orders, orderAck := listen.Typed[Order](warehouse)
	work.Go(func() {
		for msg := range orders {
			if msg.Object.ID == 3 && msg.Attempt == 1 {
				shelves.Failed()
				orderAck <- msg.Fail(errors.New("out of stock"))
				continue
			}
			fmt.Printf("warehouse   order %d, attempt %d\n", msg.Object.ID, msg.Attempt)
			shelves.Processed(msg.ID)
			orderAck <- msg
		}
	})

	// The shop sends each of them once.
	sell := swarm.LogDeadLetters(emit.Typed[Order](shop, emit.OnFailure(func(Order, error) {
		books.Undelivered()
		shelves.Undelivered()
	})))
	repay := emit.NewTyped[Refund](shop)
	work.Go(func() {
		defer close(sell)
		for id := 1; id <= 5; id++ {
			books.Begin()
			shelves.Begin()
			select {
			case sell <- Order{ID: id, Total: 9.90 * float64(id)}:
			case <-shop.Done(): // Ctrl-C
				books.Undelivered()
				shelves.Undelivered()
				return
			}
		}
		books.Begin()
		books.Answer(repay.Enq(ctx, Refund{Order: 2}))
		go func() {
			books.Wait()
			shelves.Wait()
			shop.Close() // Await answers the same
		}()
	})

	// Until then, or until SIGTERM or Ctrl-C. The listeners drain first.
	err = swarm.Await(accounting, warehouse, shop)
	work.Wait()
	return errors.Join(err, aws.Reconcile(ctx, books, shelves))
}
